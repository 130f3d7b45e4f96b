// What all pages share: requests, elements made of text, the navigation, a line that is read aloud.

const PAGES = [["/", "Library"], ["/agreement", "Agreement"], ["/train", "Train"], ["/reports", "Reports"]];

// The token has become a cookie; it is not to stay in the address.
if (new URLSearchParams(location.search).has("token")) history.replaceState(null, "", location.pathname);

/** An element with properties (`class`, `data`, attributes, `on...` listeners) and children, texts among them. */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(made.dataset, value);
    else if (value === true) made.setAttribute(name, "");
    else made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** The answer to a request as an object; with a body it is a POST. Throws an Error with the server's sentence. */
export async function api(path, body) {
  const request = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(`/api/${path}`, request);
  } catch (error) {
    throw new Error("keyframe-app does not answer: start it again.", { cause: error });
  }
  const type = answer.headers.get("content-type") ?? "";
  const content = type.startsWith("application/json") ? await answer.json() : { error: await answer.text() };
  if (!answer.ok) throw new Error(content.error);
  return content;
}

/** A time such as 3:05 or 1:03:05.2. */
export function clock(seconds, decimals = 0) {
  const unit = 10 ** decimals;
  const whole = Math.round(seconds * unit);
  const rest = ((whole % (60 * unit)) / unit).toFixed(decimals).padStart(decimals ? 3 + decimals : 2, "0");
  const minutes = Math.floor(whole / (60 * unit));
  const hours = Math.floor(minutes / 60);
  return hours ? `${hours}:${String(minutes % 60).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

const line = el("p", { id: "status", role: "status", class: "soft" });

/** Show a line below the heading, which a screen reader reads; an Error in red. */
export function say(text) {
  line.className = text instanceof Error ? "bad" : "soft";
  line.textContent = text instanceof Error ? text.message : text;
}

/** Do something that may fail, and show why it has. */
export async function attempt(doing) {
  try {
    return await doing();
  } catch (error) {
    say(error);
    return undefined;
  }
}

/** Call something every so many seconds while the page is seen, until it gives false. */
export function repeat(seconds, doing) {
  const next = async () => {
    if (!document.hidden && (await attempt(doing)) === false) return;
    setTimeout(next, 1000 * seconds);
  };
  next();
}

/** The address of a still of a video (an object of the API) at a time. */
export function still(video, seconds, height = 180) {
  return `/api/videos/${video.id}/still?at=${seconds.toFixed(3)}&height=${height}&v=${video.changed}`;
}

/** The id in the address of a page of one video. */
export const videoId = location.pathname.split("/")[2];

const nav = el(
  "nav",
  { "aria-label": "Pages" },
  PAGES.map(([path, name]) =>
    el("a", { href: path, "aria-current": path === location.pathname ? "page" : null }, name),
  ),
);
document.body.prepend(
  el("a", { class: "skip", href: "#main" }, "Skip to the page"),
  el("header", {}, nav),
);
document.querySelector("h1").after(line);
