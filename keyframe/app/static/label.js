// The page to label a video by TVSum's protocol: watch it once, then score its shots from 1 to 5.
import { api, attempt, clock, el, page, say, tableRow } from "./common.js";
import { find, load, videoId } from "./player.js";

const MEANINGS = ["not important", "little", "medium", "important", "very important"];
const path = `videos/${videoId}/shots`;
const times = []; // seconds that the last scores took
let video = null;
let state = null; // what the server tells this annotator
let place = 0; // in the order of shots
let since = 0; // when the shot was shown
let sending = false;

const shot = () => state.order[place];
const scored = () => Object.keys(state.scores).length;

async function enter(name, body) {
  const question = `${path}?annotator=${encodeURIComponent(name)}`;
  state = body ? await api(path, { annotator: name, ...body }) : await api(question);
  page.kind.parentElement.hidden = state.kinds?.length < 2;
  if (state.kinds && !state.kinds.includes(page.kind.value)) page.kind.value = state.kinds[0];
  if (state.shot_seconds) page.kind.options[0].textContent = `of ${state.shot_seconds} seconds each`;
  page.begin.hidden = state.begun;
  page.stage.hidden = !state.begun;
  if (!state.begun) return false;
  localStorage.setItem("annotator", name);
  document.title = `${video.name} - ${name} labels - keyframe`;
  await load(page.player, video);
  if (state.given_up) finish(`You have given up this video; ${scored()} of ${state.order.length} shots have a score.`);
  else if (!state.watched) watch();
  else rate();
  return true;
}

function finish(sentence) {
  page.watch.hidden = page.rate.hidden = page.stop.hidden = true;
  page.player.controls = true;
  page.task.textContent = sentence;
}

/** The whole video once, without jumps; a page that is loaded again goes on where it was. */
function watch() {
  page.rate.hidden = true;
  page.task.textContent = `First watch the whole video once (${clock(video.seconds)})`;
  const key = `watched ${videoId} ${state.annotator}`;
  page.player.currentTime = Number(localStorage.getItem(key) ?? 0);
  page.player.addEventListener("timeupdate", () => {
    if (!state.watched) localStorage.setItem(key, page.player.currentTime.toFixed(1));
  });
  page.player.addEventListener("ended", () => {
    if (state.watched) return;
    attempt(async () => {
      await api(path, { annotator: state.annotator, watched: true });
      state.watched = true;
      localStorage.removeItem(key);
      rate();
    });
  });
  page.play.focus();
}

function rate() {
  page.watch.hidden = true;
  page.rate.hidden = false;
  page.scores.replaceChildren(
    ...MEANINGS.map((meaning, at) =>
      el("button", { "aria-pressed": "false", onclick: () => give(at + 1) }, el("b", {}, `${at + 1}`), ` ${meaning}`),
    ),
  );
  place = nextOpen(0) ?? 0;
  show();
}

/** The next place in the order, from one on, whose shot has no score. */
function nextOpen(from) {
  const places = state.order.map((_, at) => (at + from) % state.order.length);
  return places.find((at) => !(state.order[at] in state.scores));
}

function show() {
  const { start, end } = state.shots[shot()];
  const all = state.order.length;
  page.task.textContent = `Shot ${place + 1} of ${all}: ${clock(start)} to ${clock(end)}`;
  if (scored() === all) {
    say(`All ${all} shots have a score: they are in ${state.file}. You may still go back and change one.`);
  } else {
    say(state.scores[shot()] ? `Your score: ${state.scores[shot()]}` : "How important is this shot for the video?");
  }
  page.stop.hidden = scored() === all;
  page.next.hidden = scored() < all;
  if (scored() === all) attempt(offerNext);
  [...page.scores.children].forEach((button, at) =>
    button.setAttribute("aria-pressed", String(state.scores[shot()] === at + 1)),
  );
  page.back.disabled = place === 0;
  page.forward.disabled = place === all - 1;
  page.done.max = all;
  page.done.value = scored();
  const rest = all - scored();
  const usual = times.length ? times.toSorted((a, b) => a - b)[times.length >> 1] : end - start + 1.5;
  page.left.textContent = rest ? `${scored()} of ${all} scored, about ${clock(rest * usual)} left` : "All scored";
  shares();
  since = performance.now();
  play();
}

/** Links to the next video that this annotator has not labelled, and to how much annotators agree. */
async function offerNext() {
  const done = (one) => one.labelled.some((label) => label.annotator === state.annotator && label.share === 1);
  const next = (await api("library")).videos.find((one) => one.id !== videoId && !one.fault && !done(one));
  const link = next && el("a", { href: `/videos/${next.id}/label` }, `Next: ${next.name}`);
  page.next.replaceChildren(link ?? "You have labelled all videos. ", " ", el("a", { href: "/agreement" }, "Agreement"));
}

function shares() {
  const given = Object.values(state.scores);
  const mine = MEANINGS.map((_, at) => given.filter((score) => score === at + 1).length / Math.max(1, given.length));
  const percent = (share) => `${Math.round(100 * share)} %`;
  page.shares.replaceChildren(
    ...MEANINGS.map((_, at) => tableRow(`${at + 1}`, percent(mine[at]), percent(state.wanted[at]))),
  );
  const high = mine[3] + mine[4];
  const wanted = state.wanted[3] + state.wanted[4];
  const many = given.length >= 10 && high > 2 * wanted;
  page.hint.textContent = many
    ? `${percent(high)} of your scores are 4 or 5: keep them for the few shots that matter most (TVSum: ${percent(wanted)}).`
    : "Few shots of a video are very important: compare each with the others of this video.";
}

let playing = 0; // number of the last call, so that an earlier one ends
async function play() {
  const own = ++playing;
  const { start, end } = state.shots[shot()];
  page.player.currentTime = start + 0.001;
  try {
    await page.player.play();
  } catch {
    if (own === playing) say("Press space, or Play again, to see the shot.");
    return;
  }
  const look = () => {
    if (own !== playing) return;
    if (page.player.currentTime >= end - 0.03 || page.player.ended) page.player.pause();
    else requestAnimationFrame(look);
  };
  look();
}

function move(by) {
  const to = place + by;
  if (to < 0 || to >= state.order.length) return;
  place = to;
  show();
}

/** Score the shot; the next one is shown once the score is on the server's disk. */
async function give(score) {
  if (sending || !state.watched || state.given_up) return;
  sending = true;
  const [rated, took] = [shot(), (performance.now() - since) / 1000];
  await attempt(async () => {
    await api(path, { annotator: state.annotator, shot: rated, score });
    if (!(rated in state.scores)) times.push(took);
    times.splice(0, times.length - 20);
    state.scores[rated] = score;
    place = nextOpen(place) ?? Math.min(place + 1, state.order.length - 1);
    page.task.focus({ preventScroll: true }); // so that space plays and does not press the score again
    show();
  });
  sending = false;
}

document.addEventListener("keydown", (event) => {
  const busy = event.ctrlKey || event.metaKey || event.altKey || page.rate.hidden || page.stage.hidden;
  if (busy || event.target.closest("input, select, a") || (event.key === " " && event.target.closest("button"))) return;
  const does = { " ": play, ArrowLeft: () => move(-1), ArrowRight: () => move(1) };
  if (/^[1-5]$/.test(event.key)) does[event.key] = () => give(Number(event.key));
  if (!does[event.key] || event.repeat) return;
  event.preventDefault();
  does[event.key]();
});
page.play.addEventListener("click", () => (page.player.paused ? page.player.play() : page.player.pause()));
for (const kind of ["play", "pause"]) {
  page.player.addEventListener(kind, () => (page.play.textContent = page.player.paused ? "Play" : "Pause"));
}
page.again.addEventListener("click", play);
page.back.addEventListener("click", () => move(-1));
page.forward.addEventListener("click", () => move(1));
page.stop.addEventListener("click", () => {
  const sure = page.stop.dataset.sure === "yes";
  page.stop.dataset.sure = "yes";
  page.stop.textContent = "Really give up: you cannot continue this video later";
  if (!sure) return;
  attempt(async () => {
    await api(path, { annotator: state.annotator, given_up: true });
    state.given_up = true;
    page.player.pause();
    finish(`You have given up this video; ${scored()} of ${state.order.length} shots have a score.`);
  });
});
page.other.addEventListener("click", () => {
  localStorage.removeItem("annotator");
  location.reload();
});
page.begin.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    const name = page.name.value;
    if (!(await enter(name))) await enter(name, { order: page.order.value, kind: page.kind.value });
  });
});

attempt(async () => {
  video = await find();
  page.name.value = localStorage.getItem("annotator") ?? "";
  page.begin.hidden = false;
  await enter(page.name.value);
});
