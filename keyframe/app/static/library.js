// The page of all videos: stills, states, search, scoring, uploads.
import { api, attempt, clock, el, matches, page, repeat, say, still, taskRow } from "./common.js";

const cards = new Map(); // id -> { element, key }, made once, changed if what they show has
let videos = [];

function size(bytes) {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function facts(video) {
  if (video.fault) return el("span", { class: "bad" }, video.fault);
  if (video.seconds === undefined) return el("span", { class: "soft" }, "not looked at yet");
  const shape = `${video.width} x ${video.height}, ${video.codec}`;
  return el("span", { class: "soft" }, `${clock(video.seconds)} - ${shape} - ${size(video.bytes)}`);
}

function states(video) {
  const names = new Map([...page.model.options].map((option) => [option.value, option.textContent]));
  const scored = video.scored.map((id) => names.get(id) ?? id);
  const labelled = video.labelled.map((one) => `${one.annotator} ${Math.round(100 * one.share)} %`);
  return [
    el("span", {}, scored.length ? `Scored: ${scored.join(", ")}` : "Not scored"),
    labelled.length ? el("span", {}, `Labelled: ${labelled.join(", ")}`) : null,
  ];
}

function card(video) {
  const known = video.seconds !== undefined && !video.fault;
  const image = known ? still(video, video.seconds / 3, { class: "still" }) : el("span", { class: "still" });
  return el(
    "li",
    { class: "card" },
    image,
    el("a", { href: `/videos/${video.id}` }, video.name),
    facts(video),
    ...states(video),
    known ? el("a", { href: `/videos/${video.id}/label`, "aria-label": `Label ${video.name}` }, "Label") : null,
  );
}

function show() {
  let shown = videos.filter((video) => matches(`${video.folder}/${video.name}`, page.search.value));
  const by = page.sort.value;
  if (by === "name") shown = shown.toSorted((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  else if (by === "scored") shown = shown.toSorted((a, b) => b.scored.length - a.scored.length);
  else if (by !== "found") shown = shown.toSorted((a, b) => (b[by] ?? 0) - (a[by] ?? 0));
  const made = shown.map((video) => {
    const key = JSON.stringify([video, page.model.options.length]);
    if (cards.get(video.id)?.key !== key) cards.set(video.id, { element: card(video), key });
    return cards.get(video.id).element;
  });
  const now = [...page.cards.children];
  if (made.length !== now.length || made.some((one, place) => one !== now[place])) page.cards.replaceChildren(...made);
  page.count.textContent = `${shown.length} of ${videos.length} videos`;
  page.score.disabled = !shown.some((video) => !video.scored.includes(page.model.value) && !video.fault);
  return shown;
}

async function load(refresh = false) {
  const found = await api(`library${refresh ? "?refresh=1" : ""}`);
  videos = found.videos;
  if (page.model.options.length !== found.models.length) {
    page.model.replaceChildren(...found.models.map((model) => el("option", { value: model.id }, model.name)));
  }
  const tasks = found.tasks.filter((task) => !["done", "cancelled"].includes(task.state));
  page.work.replaceChildren(...tasks.map(taskRow));
  show();
}

async function upload(files) {
  for (const file of files) {
    say(`Adding ${file.name} ...`);
    const answer = await fetch(`/api/uploads?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
    if (!answer.ok) throw new Error((await answer.json()).error);
    say(`${file.name} is added`);
  }
  await load();
}

page.search.addEventListener("input", show);
page.sort.addEventListener("change", show);
page.model.addEventListener("change", show);
page.refresh.addEventListener("click", () => attempt(() => load(true)));
page.score.addEventListener("click", () =>
  attempt(async () => {
    const ids = show().map((video) => video.id);
    await api("score", { videos: ids, model: page.model.value });
    await load();
  }),
);
page.file.addEventListener("change", () => attempt(() => upload(page.file.files)));
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", kind === "dragover");
    if (kind === "drop") attempt(() => upload(event.dataTransfer.files));
  });
}
let refresh = true;
repeat(1.5, async () => {
  await load(refresh);
  refresh = false;
});
