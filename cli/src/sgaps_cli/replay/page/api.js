// Asks the server of this page.

const encoded = what => new URLSearchParams(what).toString();

/** The server is there and says why not; its message names the cure. */
export class Refused extends Error {}

async function reply(path) {
  const answer = await fetch(path);
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Refused(told.detail ?? `${path}: ${answer.status}`);
}

export const catalog = async () => (await reply("/api/catalog")).json();
export const recordingOf = async recording => (await reply(`/api/recording?${encoded({ recording })}`)).json();
/** recording, position, checkpoint → the bytes of a view. */
export const frameOf = async place => (await reply(`/api/frame?${encoded(place)}`)).arrayBuffer();
/** PSNR in dB; null where no true frame was recorded. */
export const scoreOf = async place => (await (await reply(`/api/score?${encoded(place)}`)).json()).psnr_db;
