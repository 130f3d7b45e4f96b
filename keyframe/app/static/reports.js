// The page of runs: a few figures of each, all of them on request, and the reports that exist.
import { api, attempt, el, matches, page, say, tableRow } from "./common.js";

const SHORT = /^(test|val|reference\/other_annotators|[^/]*)\/?(spearman|kendall|f1_user_mean)$/;
let runs = [];

function figures(pairs) {
  const rows = pairs.map(([key, value]) => tableRow(key, `${Number(value.toPrecision(4))}`));
  return el("table", {}, el("tbody", {}, rows));
}

function section(run) {
  const all = Object.entries(run.figures);
  const few = all.filter(([key]) => SHORT.test(key)).slice(0, 6);
  const use = async () => {
    await api("models", { run: run.id });
    say(`${run.name} is among the models of the library`);
  };
  return el(
    "div",
    {},
    el("h2", {}, run.name),
    run.fault ? el("p", { class: "bad" }, run.fault) : figures(few),
    el(
      "div",
      { class: "row" },
      run.reports.map((name, at) =>
        el("a", { href: `/api/runs/${run.id}/reports/${at}`, target: "_blank", rel: "noopener" }, name),
      ),
      run.model ? el("button", { onclick: () => attempt(use), "aria-label": `Use ${run.name} as a model` }, "Use as a model") : null,
    ),
    all.length > few.length ? el("details", {}, el("summary", {}, `All ${all.length} figures`), figures(all)) : null,
  );
}

function show() {
  page.runs.replaceChildren(...runs.filter((run) => matches(run.name, page.search.value)).map(section));
}

page.search.addEventListener("input", show);
attempt(async () => {
  const found = await api("runs");
  page.folder.textContent = found.folder;
  runs = found.runs;
  if (!runs.length) say("No run has been found: figures appear once keyframe-train or keyframe-evaluate has ended.");
  show();
});
