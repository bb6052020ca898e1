// Triangles. A vertex is 12 numbers: position, normal, texture coordinates, surface, tint.

import { SURFACES } from "./textures.js";

export const WALL_HEIGHT = 1.25;

/** Of each zone, the tint of its stone and the color of its light. */
export const PALETTE = [
  { wall: "brick", tint: [0.8, 0.5, 0.36], light: [1.0, 0.66, 0.36] },
  { wall: "panel", tint: [0.46, 0.62, 0.72], light: [0.42, 0.82, 1.0] },
  { wall: "panel", tint: [0.66, 0.46, 0.62], light: [1.0, 0.5, 0.72] },
  { wall: "brick", tint: [0.5, 0.6, 0.42], light: [0.72, 1.0, 0.6] },
];

const STONE = [0.72, 0.7, 0.68];

/** What does not move: Float32Array of vertices. */
export function mazeMesh(maze, lamps) {
  const vertices = [];
  const isLamp = new Set(lamps.map(({ cell }) => String(cell)));
  for (const [x, z] of maze.cells) {
    const { wall, tint, light } = PALETTE[maze.zoneOf(x, z)];
    const roof = isLamp.has(`${x},${z}`) ? [SURFACES.lamp, light] : [SURFACES.ceiling, STONE];
    quad(vertices, [x, 0, z], [1, 0, 0], [0, 0, 1], [0, 1, 0], SURFACES.slab, STONE);
    quad(vertices, [x, WALL_HEIGHT, z], [1, 0, 0], [0, 0, 1], [0, -1, 0], ...roof);
    for (const side of sidesOf(maze, x, z)) quad(vertices, ...side, SURFACES[wall], tint);
  }
  return new Float32Array(vertices);
}

/** Corner, the two edges and the normal of each wall around an open cell. */
function sidesOf(maze, x, z) {
  const up = [0, WALL_HEIGHT, 0];
  return [
    [[x, 0, z], [1, 0, 0], up, [0, 0, 1], [x, z - 1]],
    [[x, 0, z + 1], [1, 0, 0], up, [0, 0, -1], [x, z + 1]],
    [[x, 0, z], [0, 0, 1], up, [1, 0, 0], [x - 1, z]],
    [[x + 1, 0, z], [0, 0, 1], up, [-1, 0, 0], [x + 1, z]],
  ].filter(([, , , , beyond]) => !maze.isOpen(...beyond)).map(side => side.slice(0, 4));
}

function quad(vertices, corner, across, along, normal, surface, tint) {
  for (const [u, v] of [[0, 0], [1, 0], [1, 1], [0, 0], [1, 1], [0, 1]]) {
    const position = corner.map((at, axis) => at + u * across[axis] + v * along[axis]);
    vertices.push(...position, ...normal, u, v, surface, ...tint);
  }
}

/** A ball of radius 1, paved with a surface. */
export function ballMesh(surface, rings = 12) {
  const vertices = [];
  const at = (u, v) => {
    const [turn, rise] = [2 * Math.PI * u, Math.PI * v];
    const normal = [Math.sin(rise) * Math.cos(turn), Math.cos(rise), Math.sin(rise) * Math.sin(turn)];
    vertices.push(...normal, ...normal, 2 * u, v, surface, 1, 1, 1);
  };
  for (let ring = 0; ring < rings; ring++) {
    for (let slice = 0; slice < 2 * rings; slice++) {
      for (const [du, dv] of [[0, 0], [1, 0], [1, 1], [0, 0], [1, 1], [0, 1]]) {
        at((slice + du) / (2 * rings), (ring + dv) / rings);
      }
    }
  }
  return new Float32Array(vertices);
}

/** An octahedron with flat sides, 1 high above and below its middle. */
export function crystalMesh(surface) {
  const vertices = [];
  for (const [sx, sy, sz] of [[1, 1, 1], [1, 1, -1], [1, -1, 1], [1, -1, -1], [-1, 1, 1], [-1, 1, -1], [-1, -1, 1], [-1, -1, -1]]) {
    const normal = [sx, sy, sz].map(side => side / Math.sqrt(3));
    const corners = [[0.55 * sx, 0, 0], [0, sy, 0], [0, 0, 0.55 * sz]];
    corners.forEach((corner, n) => vertices.push(...corner, ...normal, n / 2, n % 2, surface, 1, 1, 1));
  }
  return new Float32Array(vertices);
}
