// What is drawn over and beside the pictures.

import { imageOf } from "./pictures.js";

const FAINT = "#ffb454";
const ERROR_GAIN = 4;

/** The outline of each sample's square; where they are many, small ones are dots. */
export function drawPlaces(canvas, rectangles, width) {
  const context = canvas.getContext("2d");
  const scale = canvas.width / width;
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = context.strokeStyle = FAINT;
  context.lineWidth = 1;
  for (let n = 0; n < rectangles.length; n += 4) {
    const [x, y, columns, rows] = rectangles.subarray(n, n + 4);
    context.globalAlpha = 0.16;
    context.strokeRect(x * scale + 0.5, y * scale + 0.5, columns * scale - 1, rows * scale - 1);
    context.globalAlpha = 0.85;
    context.fillRect((x + columns / 2) * scale - 1, (y + rows / 2) * scale - 1, 2, 2);
  }
}

/** Each square in the value that is sent for it; large ones first. */
export function drawPainted(canvas, rectangles, values) {
  const context = canvas.getContext("2d");
  const order = Array.from(values.keys()).sort((a, b) => rectangles[4 * b + 2] - rectangles[4 * a + 2]);
  context.fillStyle = "#14181f";
  context.fillRect(0, 0, canvas.width, canvas.height);
  for (const n of order) {
    context.fillStyle = `rgb(${values[n]} ${values[n]} ${values[n]})`;
    context.fillRect(...rectangles.subarray(4 * n, 4 * n + 4));
  }
}

/** A gray picture. */
export function drawGray(canvas, luma) {
  canvas.getContext("2d").putImageData(imageOf(luma, canvas.width, canvas.height), 0, 0);
}

/** How far a picture is from the truth. */
export function drawError(canvas, picture, truth) {
  drawGray(canvas, picture.map((value, n) => Math.min(255, ERROR_GAIN * Math.abs(value - truth[n]))));
}

/** An importance map, from black over violet and orange to white. */
export function drawHeat(canvas, { width, height, data }) {
  [canvas.width, canvas.height] = [width, height];
  const image = new ImageData(width, height);
  data.forEach((value, n) => image.data.set([2 * value, 2 * value - 160, value < 128 ? value : 3 * value - 510, 255], 4 * n));
  canvas.getContext("2d").putImageData(image, 0, 0);
}
