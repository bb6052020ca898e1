// Asks the server of this page.

const encoded = what => new URLSearchParams(what).toString();

/** The server is there and says why not; its message names the cure. */
export class Refused extends Error {}

/** The server is not there, or went while it answered. */
export class Lost extends Error {}

function lost(cause) {
  throw new Lost("The server does not answer: is sgaps replay still running? Then load the page again.", { cause });
}

/** What it says, as one of the kinds that a Response can be read as. */
async function reply(path, kind = "json") {
  const answer = await fetch(path).catch(lost);
  if (answer.ok) return answer[kind]().catch(lost); // it may be cut off
  const told = await answer.json().catch(() => ({}));
  throw new Refused(told.detail ?? `${path}: ${answer.status}`);
}

export const catalog = () => reply("/api/catalog");
export const recordingOf = recording => reply(`/api/recording?${encoded({ recording })}`);
/** recording, position, checkpoint → the bytes of a view. */
export const frameOf = place => reply(`/api/frame?${encoded(place)}`, "arrayBuffer");
/** PSNR in dB; null where no true frame was recorded. */
export const scoreOf = async place => (await reply(`/api/score?${encoded(place)}`)).psnr_db;
