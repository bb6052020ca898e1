// Gray pictures as Uint8Array, row by row from the top: from and to PNG, onto canvases, and how far two of them
// are apart. PNG is the browser's own: its pixels are opaque and equal in all channels, so nothing is lost.

import { decoded } from "../pictures.js";

const COLOR = { colorSpaceConversion: "none", premultiplyAlpha: "none" };

/** A gray picture as ImageData. */
export function imageOf(luma, width, height) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let n = 0; n < luma.length; n++) pixels[n] = 0xff000000 | (luma[n] * 0x010101);
  return image;
}

/** Uint8Array of a PNG. */
export async function encodedPng(luma, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(imageOf(luma, width, height), 0, 0);
  return new Uint8Array(await (await canvas.convertToBlob({ type: "image/png" })).arrayBuffer());
}

/** The bytes of a PNG as a gray picture {luma, width, height}. Throws an Error that says what they are instead. */
export async function decodedPng(bytes) {
  const bitmap = await decoded(bytes, "png", COLOR);
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  return { luma: Uint8Array.from({ length: width * height }, (_, n) => data[4 * n]), width, height };
}

/** In dB; 100 for equal pictures. */
export function psnrDb(picture, truth) {
  let sum = 0;
  for (let n = 0; n < truth.length; n++) sum += (picture[n] - truth[n]) ** 2;
  return sum ? -10 * Math.log10(sum / truth.length / 255 ** 2) : 100;
}

/** The PSNR of the best flat gray: what knowing nothing but the mean is worth. */
export function flatPsnrDb(truth) {
  const mean = truth.reduce((sum, value) => sum + value, 0) / truth.length;
  return psnrDb(new Uint8Array(truth.length).fill(Math.round(mean)), truth);
}
