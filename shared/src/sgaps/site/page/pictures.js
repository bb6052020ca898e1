// Draws one frame: every canvas shows the same one, and says so where it cannot.

import { squares } from "./wire.js";

const ANCHORS = [[0, 0, 4], [59, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]];
const HEAT = Array.from({ length: 256 }, (_, value) => {
  const at = value / 255 * (ANCHORS.length - 1), low = Math.min(Math.floor(at), ANCHORS.length - 2);
  return ANCHORS[low].map((from, channel) => Math.round(from + (ANCHORS[low + 1][channel] - from) * (at - low)));
});
const ERROR_GAIN = 4;
const SAMPLE_COLOUR = "#ffb454";
const MARKS_SCALE = 3, MAX_ENLARGED_WIDTH = 640;

const newCanvas = (width, height) => Object.assign(document.createElement("canvas"), { width, height });
const context = canvas => canvas.getContext("2d", { willReadFrequently: true });
const scratch = context(newCanvas(1, 1));

/** Values in 0..255 as colours; `alpha` says how much each hides what is below it. */
function heatMap(values, width, height, alpha) {
  const canvas = newCanvas(width, height), image = new ImageData(width, height);
  for (let index = 0; index < values.length; index++) {
    const value = values[index], [red, green, blue] = HEAT[value];
    image.data[4 * index] = red;
    image.data[4 * index + 1] = green;
    image.data[4 * index + 2] = blue;
    image.data[4 * index + 3] = alpha(value);
  }
  context(canvas).putImageData(image, 0, 0);
  return canvas;
}

/** ITU-R BT.601, as the gateway has it. */
function lumaOf(bitmap) {
  const { width, height } = bitmap;
  Object.assign(scratch.canvas, { width, height });
  scratch.drawImage(bitmap, 0, 0);
  const { data } = scratch.getImageData(0, 0, width, height);
  return Uint8ClampedArray.from({ length: data.length / 4 }, (_, index) =>
    .299 * data[4 * index] + .587 * data[4 * index + 1] + .114 * data[4 * index + 2]);
}

function errorMap(rebuilt, truth) {
  const ours = lumaOf(rebuilt), theirs = lumaOf(truth);
  const amplified = ours.map((value, index) => Math.abs(value - theirs[index]) * ERROR_GAIN);
  return heatMap(amplified, rebuilt.width, rebuilt.height, () => 255);
}

function samplePicture(view) {
  const canvas = newCanvas(view.header.width, view.header.height), drawing = context(canvas);
  drawing.fillRect(0, 0, canvas.width, canvas.height);
  for (const { left, top, side, value } of squares(view)) {
    drawing.fillStyle = `rgb(${value} ${value} ${value})`;
    drawing.fillRect(left, top, side, side);
  }
  return canvas;
}

/** Finer than the frame, unless that is large: three times 2560x1600 are 150 MB. */
function sampleMarks(view) {
  const { width, height } = view.header, scale = width > MAX_ENLARGED_WIDTH ? 1 : MARKS_SCALE;
  const canvas = newCanvas(width * scale, height * scale), drawing = context(canvas);
  drawing.fillStyle = drawing.strokeStyle = SAMPLE_COLOUR;
  for (const { left, top, side } of squares(view)) {
    if (side === 1) drawing.fillRect(left * scale, top * scale, scale, scale);
    else drawing.strokeRect(left * scale + .5, top * scale + .5, side * scale - 1, side * scale - 1);
  }
  return canvas;
}

/** An ImageBitmap. Throws an Error whose message goes on after "what is shown is". */
export async function decoded(bytes, encoding, options) {
  try {
    return await createImageBitmap(new Blob([bytes], { type: `image/${encoding}` }), options);
  } catch (error) {
    throw new Error("no picture that this browser can decode", { cause: error });
  }
}

/** Frees a picture now: it may be of many megabytes, and the garbage collector comes when it likes. */
function freePicture(picture) {
  if (picture instanceof ImageBitmap) picture.close();
  else if (picture) picture.width = picture.height = 0;
}

/** What a view is compared with: the true frame that came with it, and the error. null: none came, or none to compare with. */
export async function comparisonOf(view) {
  const { header } = view;
  if (!header.true_frame) return null;
  const pictures = [decoded(view.reconstruction, "png"), decoded(view.true_frame, header.true_frame)];
  const [rebuilt, truth] = await Promise.all(pictures.map(picture => picture.catch(() => null)));
  const isAlike = rebuilt && truth && truth.width === rebuilt.width && truth.height === rebuilt.height;
  const error = isAlike ? errorMap(rebuilt, truth) : null;
  freePicture(rebuilt);
  if (error) return { sessionId: header.session_id, frameId: header.frame_id, truth, error, sampleError: header.sample_error };
  freePicture(truth);
  return null;
}

/**
 * All layers of a frame; `held` is the newest comparison, of this frame or an older one. `marks` are drawn when they
 * are first asked for. Who draws them no more frees them: all but the comparison that the layers `kept` have, too.
 */
export async function layersOf(view, held) {
  const { header } = view, rebuilt = await decoded(view.reconstruction, "png"), sent = samplePicture(view);
  const next = header.importance && heatMap(view.importance, header.importance.width, header.importance.height, value => 55 + value * .75);
  let marks = null;
  return {
    header, held, rebuilt, sent, next,
    get marks() { return marks ??= sampleMarks(view); },
    free(kept) {
      [rebuilt, sent, next, marks].forEach(freePicture);
      if (held && held !== kept?.held) [held.truth, held.error].forEach(freePicture);
    },
  };
}

/** Draws pictures of a frame of this size, one over the other: [picture, opacity]. Smooth where a grid is enlarged. */
export function paint(canvas, { width, height }, pictures) {
  const scale = pictures.some(([picture]) => picture?.width > width) ? MARKS_SCALE : 1;
  if (canvas.width !== width * scale) canvas.width = width * scale;
  if (canvas.height !== height * scale) canvas.height = height * scale;
  canvas.style.aspectRatio = `${width} / ${height}`;
  const drawing = context(canvas);
  drawing.globalAlpha = 1;
  drawing.clearRect(0, 0, canvas.width, canvas.height);
  if (pictures.some(([picture]) => picture)) drawing.fillRect(0, 0, canvas.width, canvas.height);
  for (const [picture, opacity] of pictures) {
    if (!picture) continue;
    drawing.globalAlpha = opacity;
    drawing.imageSmoothingEnabled = picture.width < width;
    drawing.drawImage(picture, 0, 0, canvas.width, canvas.height);
  }
}

/** canvases by name; shown: the names laid over the rebuilt frame, with `opacity` in 0..1. */
export function draw(canvases, layers, shown, opacity) {
  const { header, rebuilt, sent, next, held } = layers;
  const over = { truth: held?.truth, error: held?.error, next, samples: shown.has("samples") && layers.marks };
  const overlays = Object.entries(over).filter(([name]) => shown.has(name)).map(([, picture]) => [picture, opacity]);
  paint(canvases.rebuilt, header, [[rebuilt, 1], ...overlays]);
  paint(canvases.sent, header, [[sent, 1]]);
  paint(canvases.next, header, [[rebuilt, .45], [next, 1]]);
  paint(canvases.truth, header, [[held?.truth, 1]]);
  paint(canvases.error, header, [[held?.error, 1]]);
}
