// What all pages share: requests, elements made of text, a line that is read aloud, rows of tasks, search.

/** The elements of the page that have an id, by it. */
export const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((one) => [one.id, one]));

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

/** Show a line below the heading, which a screen reader reads; an Error in red. */
export function say(text) {
  page.status.className = text instanceof Error ? "bad" : "soft";
  page.status.textContent = text instanceof Error ? text.message : text;
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

// Stills are made one by one, and a browser has six connections: two at a time leave some for what matters more.
const wanted = [];
let loading = 0;
const inSight = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    inSight.unobserve(target);
    wanted.push(target);
  }
  loadStills();
});

function loadStills() {
  while (loading < 2 && wanted.length) {
    const image = wanted.shift();
    if (!image.isConnected) continue;
    loading += 1;
    image.onload = image.onerror = () => {
      loading -= 1;
      loadStills();
    };
    image.src = image.dataset.src;
  }
}

/** An image of a video (an object of the API) at a time, loaded once it is seen. */
export function still(video, seconds, properties = {}) {
  const src = `/api/videos/${video.id}/still?at=${seconds.toFixed(3)}&height=180&v=${video.changed}`;
  const image = el("img", { alt: "", data: { src }, ...properties });
  inSight.observe(image);
  return image;
}

/** Whether a text has all the words of a search, in any case. */
export function matches(text, search) {
  const words = search.toLowerCase().split(/\s+/);
  return words.every((word) => text.toLowerCase().includes(word));
}

/** A row of a table: its heading, and cells of figures. */
export function tableRow(heading, ...cells) {
  return el("tr", {}, el("th", { scope: "row" }, heading), cells.map((one) => el("td", { class: "number" }, one)));
}

/** Put the text of an element into the clipboard. */
export async function copy(element) {
  await navigator.clipboard.writeText(element.textContent);
  say("Copied");
}

/** A row for something that runs: its title, a bar, a button to stop it. */
export function taskRow(task) {
  const over = ["done", "failed", "cancelled"].includes(task.state);
  const bar = el("progress", { max: 1, value: task.done, "aria-label": task.title });
  const stop = el("button", { onclick: () => attempt(() => api("cancel", { task: task.id })) }, "Stop");
  return el(
    "div",
    { class: "row" },
    el("span", { class: "grow" }, `${task.title} (${task.state})`, over ? null : bar),
    task.note ? el("span", { class: "bad" }, task.note) : null,
    over ? null : stop,
  );
}
