// The page that starts keyframe-train, shows how far it is, and stops it.
import { api, attempt, copy, el, page, repeat, say } from "./common.js";

const going = ["starting", "running"];
let before = "";

function row(run) {
  const runs = going.includes(run.state);
  const stop = el("button", { onclick: () => change({ stop: run.name }), "aria-label": `Stop ${run.name}` }, "Stop");
  return el(
    "div",
    {},
    el("h2", {}, `${run.name} (${run.state})`),
    runs ? el("div", { class: "row" }, el("span", { class: "grow" }, el("progress", { max: 1, value: run.done, "aria-label": `Epochs of ${run.name}` })), stop) : null,
    run.state === "completed" ? el("p", {}, "Among the models of the ", el("a", { href: "/" }, "library"), ".") : null,
    el("details", { open: runs }, el("summary", {}, "Log"), el("pre", { tabindex: "0" }, run.lines.join("\n"))),
  );
}

async function load() {
  const found = await api("training");
  page.command.textContent = found.command ?? "No video is labelled: label some first.";
  page.start.disabled = !found.command || found.runs.some((run) => going.includes(run.state));
  page.copy.disabled = !found.command;
  const key = JSON.stringify(found.runs);
  if (key !== before) page.runs.replaceChildren(...found.runs.map(row));
  before = key;
}

function change(body) {
  return attempt(async () => {
    await api("training", body);
    say(body.start ? "Started" : "It stops once the step that it is at has ended.");
    await load();
  });
}

page.start.addEventListener("click", () => change({ start: true }));
page.copy.addEventListener("click", () => attempt(() => copy(page.command)));
repeat(1, load);
