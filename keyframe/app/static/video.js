// The page of one video: the player, or a preview, with the curves of models and annotators under it.
import { api, attempt, clock, el, page, repeat, say, taskRow } from "./common.js";
import { Choice } from "./choose.js";
import { Curve } from "./curve.js";
import { find, load, videoId } from "./player.js";

const curve = new Curve(page.curve, page.player);
const choice = new Choice(curve, watch);
const colours = new Map(); // model -> class, the same while the page is open
const hidden = new Set(); // models whose curves are not drawn
let video = null;
let found = { curves: [], labels: null };

function colourOf(model) {
  if (!colours.has(model)) colours.set(model, `curve-${(colours.size % 5) + 1}`);
  return colours.get(model);
}

function rho(value) {
  return value === null || value === undefined ? "n/a" : value.toFixed(2);
}

function draw() {
  const shown = found.curves.filter((one) => !hidden.has(one.model));
  curve.set({
    curves: shown.map((one) => ({ ...one, colour: colourOf(one.model) })),
    band: found.labels,
    duration: page.player.duration || video.seconds || 1,
  });
}

function legend() {
  const rows = found.curves.map((one) => {
    const rank = one.spearman ? `, Spearman ${rho(one.spearman.mean)} (each annotator ${rho(one.spearman.each)})` : "";
    const box = el("input", { type: "checkbox", checked: !hidden.has(one.model) });
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(one.model);
      else hidden.add(one.model);
      draw();
    });
    return el(
      "li",
      {},
      el("label", { class: "beside" }, box, el("span", { class: `swatch ${colourOf(one.model)}` }), one.name + rank),
    );
  });
  if (found.labels) {
    const count = found.labels.annotators;
    const who = count > 1 ? `${count} annotators: mean, and the middle half` : "the annotator";
    rows.push(el("li", {}, el("span", { class: "swatch band" }), who));
  }
  if (found.note) rows.push(el("li", { class: "bad" }, found.note));
  page.legend.replaceChildren(...rows);
}

async function loadCurves() {
  found = await api(`videos/${videoId}/curves`);
  for (const model of video.models) colourOf(model.id);
  const missing = video.models.filter((model) => !found.curves.some((one) => one.model === model.id));
  page.models.replaceChildren(
    ...missing.map((model) =>
      el(
        "button",
        {
          onclick: () =>
            attempt(async () => {
              await api("score", { videos: [videoId], model: model.id });
              watch();
            }),
        },
        `Score ${model.name}`,
      ),
    ),
  );
  legend();
  draw();
  await choice.show(video, found.curves);
}

let watching = false;
/** Show the tasks of this video until they are over. */
function watch() {
  if (watching) return;
  watching = true;
  let before = "";
  repeat(0.5, async () => {
    const tasks = (await api("tasks")).tasks.filter((task) => task.video === videoId);
    page.work.replaceChildren(...tasks.filter((task) => task.state !== "done" && task.state !== "cancelled").map(taskRow));
    const states = tasks.map((task) => task.id + task.state).join();
    if (before && states !== before) {
      const state = (kind) => tasks.find((task) => task.id.endsWith(kind))?.state;
      await choice.exported(state("-export"));
      await loadCurves();
    }
    before = states;
    watching = tasks.some((task) => task.state === "waiting" || task.state === "running");
    return watching;
  });
}

page.player.addEventListener("loadedmetadata", () => draw());
page.closer.addEventListener("click", () => curve.zoom(0.5));
page.farther.addEventListener("click", () => curve.zoom(2));
page.whole.addEventListener("click", () => curve.show(0, curve.duration));

attempt(async () => {
  page.label.href = `/videos/${videoId}/label`;
  video = await find();
  say(video.seconds === undefined ? "" : `${clock(video.seconds, 1)}, ${video.width} x ${video.height}, ${video.codec}`);
  const loaded = load(page.player, video);
  watch();
  await Promise.all([loaded, loadCurves()]);
});
