// Surfaces computed at the start, so that no picture has to be loaded. A texel is the shade, how steeply the
// surface rises along u and v, and how much it glows; the color is the vertex's.

import { randomOf } from "./maze.js";

export const TEXTURE_SIZE = 128;
export const SURFACES = { brick: 0, panel: 1, slab: 2, ceiling: 3, lamp: 4, mosaic: 5 };

const mix = (a, b, t) => a + (b - a) * t;
const clamp = (x, low = 0, high = 1) => Math.min(high, Math.max(low, x));
const smoothstep = (low, high, x) => {
  const t = clamp((x - low) / (high - low));
  return t * t * (3 - 2 * t);
};

/** Noise that repeats every `period` units: a function of x and y in units. */
function noiseOf(seed, period) {
  const random = randomOf(seed);
  const lattice = Float32Array.from({ length: period * period }, random);
  const at = (x, y) => lattice[(y % period) * period + (x % period)];
  return (x, y) => {
    const [x0, y0] = [Math.floor(x), Math.floor(y)];
    const [tx, ty] = [smoothstep(0, 1, x - x0), smoothstep(0, 1, y - y0)];
    return mix(mix(at(x0, y0), at(x0 + 1, y0), tx), mix(at(x0, y0 + 1), at(x0 + 1, y0 + 1), tx), ty);
  };
}

const octaves = [4, 8, 16, 32, 64].map((period, n) => ({ period, noise: noiseOf(11 + n, period), weight: 0.5 ** (n + 1) }));

/** Rough noise in 0..1 over the unit square; it repeats at its edges. */
const rough = (u, v) => octaves.reduce((sum, { period, noise, weight }) => sum + weight * noise(u * period, v * period), 0);

const cellOf = noiseOf(77, 64);
/** A number for each cell of a pattern. */
const hash = (x, y) => cellOf((x * 7 + y * 13) % 64, (x * 29 + y * 3) % 64);

/** Distance to the border of the cell, and its hash: rows of bricks, every other one shifted. */
function tiles(u, v, columns, rows, shift) {
  const row = Math.floor(v * rows);
  const x = u * columns + (row % 2) * shift;
  const column = Math.floor(x) % columns;
  const [fx, fy] = [(x % 1) / columns, (v * rows - row) / rows];
  const edge = Math.min(fx, 1 / columns - fx, fy, 1 / rows - fy);
  return { edge, id: hash(column, row), column, row };
}

// Each: (u, v) in 0..1 → [shade, height, glow], all in 0..1.
const PAINTERS = {
  brick(u, v) {
    const { edge, id } = tiles(u, v, 4, 8, 0.5);
    const grain = rough(u, v);
    const isBrick = smoothstep(0.003, 0.014, edge + 0.006 * (grain - 0.5));
    const shade = mix(0.5, 1, id) * mix(0.72, 1.1, grain);
    return [mix(0.3 + 0.2 * grain, shade, isBrick), isBrick * mix(0.55, 0.9, id) + 0.1 * grain, 0];
  },
  panel(u, v) {
    const { edge, id } = tiles(u, v, 2, 2, 0);
    const grain = rough(u, (4 * v) % 1);
    const plate = smoothstep(0.004, 0.018, edge);
    const rivet = rivets(u, v);
    const stain = smoothstep(0.5, 0.75, rough(v, u));
    const shade = mix(0.2, mix(0.55, 0.78, id) * mix(0.8, 1.1, grain), plate) * mix(1, 0.6, stain) + 0.2 * rivet;
    const strip = smoothstep(0.016, 0.01, Math.abs(v - 0.86));
    return [shade, 0.25 + 0.5 * plate + 0.25 * rivet, strip];
  },
  slab(u, v) {
    const { edge, id, column, row } = tiles(u, v, 4, 4, 0);
    const grain = rough((u + id) % 1, (v + id * 3) % 1);
    const slab = smoothstep(0.002, 0.012, edge);
    const isDark = (column + row) % 2;
    const vein = smoothstep(0.03, 0, Math.abs(grain - 0.5)) * 0.25;
    const shade = mix(0.12, mix(isDark ? 0.26 : 0.7, isDark ? 0.38 : 0.88, id) * mix(0.8, 1.15, grain) + vein, slab);
    return [shade, 0.3 + 0.5 * slab + 0.1 * grain, 0];
  },
  ceiling(u, v) {
    const grain = rough(v, u);
    const beam = smoothstep(0.03, 0.05, tiles(u, v, 2, 2, 0).edge);
    return [mix(0.6, 0.42, beam) * mix(0.75, 1.1, grain), mix(0.9, 0.3, beam) + 0.1 * grain, 0];
  },
  lamp(u, v) {
    const [x, y] = [Math.abs(u - 0.5), Math.abs(v - 0.5)];
    const bars = smoothstep(0.006, 0.016, Math.min(Math.abs(x - 0.1), Math.abs(y - 0.1)));
    const glass = smoothstep(0.3, 0.285, Math.max(x, y)) * bars;
    const [shade, height] = PAINTERS.ceiling(u, v);
    return [shade, height, glass];
  },
  mosaic(u, v) {
    const { edge, id } = tiles(u, v, 8, 8, 0);
    const joint = smoothstep(0.002, 0.008, edge);
    return [mix(0.25, id > 0.5 ? 1 : 0.35, joint), 0.4 + 0.5 * joint, 0];
  },
};

function rivets(u, v) {
  const near = x => Math.abs(((x + 0.25) % 0.5) - 0.25);
  const distance = Math.hypot(Math.abs(near(u) - 0.035), Math.abs(near(v) - 0.035));
  return smoothstep(0.014, 0.007, distance);
}

/** All surfaces, one after the other, as SURFACES counts them: Uint8Array of RGBA. */
export function paintedSurfaces() {
  const layerBytes = 4 * TEXTURE_SIZE ** 2;
  const bytes = new Uint8ClampedArray(layerBytes * Object.keys(SURFACES).length);
  for (const [name, layer] of Object.entries(SURFACES)) carve(PAINTERS[name], bytes.subarray(layer * layerBytes, (layer + 1) * layerBytes));
  return new Uint8Array(bytes.buffer);
}

/** Paint a surface, and turn its heights into slopes. */
function carve(painter, bytes) {
  const side = TEXTURE_SIZE;
  const heights = new Float32Array(side * side);
  for (let n = 0; n < side * side; n++) {
    const [shade, height, glow] = painter(((n % side) + 0.5) / side, (Math.floor(n / side) + 0.5) / side);
    [bytes[4 * n], bytes[4 * n + 3], heights[n]] = [255 * shade, 255 * glow, height];
  }
  for (let n = 0; n < side * side; n++) {
    const row = n - (n % side);
    bytes[4 * n + 1] = 127.5 + 127.5 * (heights[row + ((n + 1) % side)] - heights[n]);
    bytes[4 * n + 2] = 127.5 + 127.5 * (heights[(n + side) % (side * side)] - heights[n]);
  }
}
