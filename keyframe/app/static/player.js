// What a page needs to play a video: the file itself, or a preview where browsers do not play it.
import { api, say } from "./common.js";

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

/** Let a player load a video (an object of the API); waits while its preview is made. */
export async function load(player, video) {
  const own = `/api/videos/${video.id}/file`;
  if (video.plays && (await loads(player, own))) return;
  for (;;) {
    const preview = await api(`videos/${video.id}/preview`, {});
    if (preview.ready) break;
    if (preview.task.state === "failed") throw new Error(preview.task.note);
    say(`Browsers do not play this file: a preview is being made (${Math.round(100 * preview.task.done)} %).`);
    await pause(0.7);
  }
  say("");
  if (!(await loads(player, `/api/videos/${video.id}/preview`))) throw new Error("The preview cannot be played.");
}

function loads(player, address) {
  return new Promise((done) => {
    player.addEventListener("loadeddata", () => done(true), { once: true });
    player.addEventListener("error", () => done(false), { once: true });
    player.preload = "auto";
    player.src = address;
  });
}
