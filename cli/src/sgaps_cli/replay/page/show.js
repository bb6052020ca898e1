// Draws one frame of a recording as A and B rebuild it, and writes below it what is known.

import { comparisonOf, layersOf, paint } from "./pictures.js";
import { sampleCount } from "./wire.js";
import { byId, rewrite, whole } from "./words.js";

const OVERLAY_OPACITY = .75, DIMMED = .45;
export const SIDES = ["a", "b"];

/** view of a frame → all that can be painted of it. */
export async function paintable(view) {
  const held = await comparisonOf(view);
  return layersOf(view, held);
}

/** results: for A and B {layers} or {error}. facts: {isUnsampled, nearest} of the frame. */
export function show(results, shown, facts) {
  results.forEach(({ layers, error }, index) => showSide(SIDES[index], layers, error, shown));
  const any = results.find(({ layers }) => layers)?.layers;
  showTruth(any, facts);
  showSamples(any, facts);
  showCaptions(results.map(({ layers }) => layers));
}

function showSide(side, layers, error, shown) {
  const canvas = byId(`rebuilt-${side}`), why = byId(`why-${side}`);
  why.hidden = !error;
  rewrite(why, error?.message ?? "");
  if (!layers) return [canvas, byId(`error-${side}`)].forEach(blank);
  const { header, rebuilt } = layers, wrong = errorOf(layers);
  const over = [[shown.has("error") && wrong, OVERLAY_OPACITY], [shown.has("samples") && layers.marks, OVERLAY_OPACITY]];
  paint(canvas, header, [[rebuilt, 1], ...over.filter(([picture]) => picture)]);
  paint(byId(`error-${side}`), header, layers.held ? [[wrong, 1]] : [[rebuilt, DIMMED], [wrong, 1]]);
}

/** The true error, else the one that the model expects, else nothing. */
const errorOf = layers => layers.held?.error ?? layers.next;

function showTruth(layers, { nearest }) {
  const truth = layers?.held?.truth;
  if (truth) paint(byId("truth"), layers.header, [[truth, 1]]);
  else blank(byId("truth"));
  byId("why-truth").hidden = !layers || Boolean(truth);
  byId("why-truth").textContent = nearest === null ? "No true frame was recorded in this session." : `None was recorded here. The nearest is at frame ${nearest + 1}.`;
  byId("truth-text").textContent = truth ? "as it was recorded" : "to be compared with, where there is one";
}

function showSamples(layers, { isUnsampled }) {
  if (!layers) return blank(byId("sent"));
  const count = sampleCount(layers.header), pixels = layers.header.width * layers.header.height;
  paint(byId("sent"), layers.header, [[layers.sent, 1]]);
  byId("sent-text").textContent = `${whole.format(count)}, ${(count / pixels * 100).toFixed(1)} % as many as pixels; `
    + (isUnsampled ? "drawn now, for the frame was captured whole" : "as the game sent them");
}

function showCaptions(both) {
  const measured = both.map(layers => layers?.header.measured_psnr?.toFixed(2) ?? null);
  both.forEach((layers, index) => {
    const side = SIDES[index], other = measured[1 - index], own = measured[index];
    byId(`psnr-${side}`).replaceChildren(...(layers ? told(layers.header, own, other) : ["\u00a0"]));
    byId(`error-${side}-text`).textContent = errorText(layers);
  });
}

function errorText(layers) {
  if (!layers) return "";
  if (layers.held) return "|true − rebuilt|; the brightest is a quarter of white";
  return layers.next ? "as the model expects it, for no true frame was recorded" : "is not known, and nothing expects any";
}

/** own and other: dB as they are shown, so that the gain is what the reader finds between them. */
function told({ predicted_psnr: expected }, own, other) {
  const parts = [], strong = text => Object.assign(document.createElement("b"), { textContent: text });
  if (own !== null) parts.push(strong(`${own} dB`), " measured");
  if (own !== null && other !== null && own - other > 0) parts.push(" ", Object.assign(strong(`+${(own - other).toFixed(2)} dB`), { className: "gain" }));
  if (expected !== null) parts.push(own === null ? strong(`${expected.toFixed(2)} dB`) : ` · ${expected.toFixed(1)} dB`, " expected");
  if (own === null && expected === null) parts.push("interpolation, which expects nothing");
  return parts;
}

function blank(canvas) {
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
}
