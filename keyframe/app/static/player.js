// Lets a player play a video: the file itself, or a preview where browsers do not play it.
import { api, attempt, page, say } from "./common.js";

/** The id in the address of a page of one video. */
export const videoId = location.pathname.split("/")[2];
const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

/** The video of the page, whose name becomes the heading; throws an Error with its fault if it cannot be read. */
export async function find() {
  const video = await api(`videos/${videoId}`);
  page.title.textContent = video.name;
  document.title = `${video.name} - ${document.title}`;
  if (video.fault) throw new Error(video.fault);
  return video;
}

/** Let a player load a video (an object of the API); waits while its preview is made. */
export async function load(player, video) {
  const own = `/api/videos/${video.id}/file`;
  if (!video.plays || !(await loads(player, own))) await preview(player, video);
  else player.addEventListener("error", () => attempt(() => preview(player, video)), { once: true });
}

async function preview(player, video) {
  const kind = player.canPlayType('video/mp4; codecs="avc1.64001f, mp4a.40.2"') ? "mp4" : "webm"; // some lack H.264
  let { ready, task } = await api(`videos/${video.id}/preview`, { kind });
  while (!ready && ["waiting", "running"].includes(task.state)) {
    say(`The browser does not play this file: a preview is being made (${Math.round(100 * task.done)} %).`);
    await pause(0.5);
    task = (await api("tasks")).tasks.find((one) => one.id === task.id);
    ready = task.state === "done";
  }
  if (!ready) throw new Error(task.note || "The preview was stopped: reload the page to make it.");
  if (!(await loads(player, `/api/videos/${video.id}/preview.${kind}`))) throw new Error("The preview cannot be played.");
  say("This is a preview: the browser does not play the file itself.");
}

function loads(player, address) {
  return new Promise((done) => {
    player.addEventListener("loadedmetadata", () => done(true), { once: true });
    player.addEventListener("error", () => done(false), { once: true });
    player.src = address;
  });
}
