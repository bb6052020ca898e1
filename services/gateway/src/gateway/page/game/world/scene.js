// What stands, moves and shines in the maze at a moment: a function of time alone.

import { PALETTE, WALL_HEIGHT } from "./meshes.js";
import { randomOf } from "./maze.js";
import { MAX_LIGHTS } from "./shaders.js";

const LAMP_REACH = 4.2, LAMP_POWER = 1.35;
const BALLS = 10, BALL_RADIUS = 0.17, BALL_SPEED = 0.7, BALL_WAY_CELLS = 7;
const SIGHT = 11;
const HEAD_LAMP = { reach: 5, color: [0.45, 0.42, 0.38] };

/** The cells whose ceiling holds a lamp, each with its light. */
export function lampsOf(maze) {
  const isLit = ([x, z]) => x % 2 === 1 && z % 2 === 1 && (x + z) % 4 === 2;
  return maze.cells.filter(isLit).map(([x, z]) => ({
    cell: [x, z],
    place: [x + 0.5, WALL_HEIGHT - 0.12, z + 0.5],
    reach: LAMP_REACH,
    color: PALETTE[maze.zoneOf(x, z)].light.map(value => value * LAMP_POWER),
  }));
}

export class Scene {
  #lamps;
  #crystals;
  #balls;

  constructor(maze, lamps, seed) {
    const random = randomOf(seed);
    const anyCell = () => maze.cells[Math.floor(random() * maze.cells.length)];
    this.#lamps = lamps;
    this.#crystals = maze.rooms.map(({ x, z, width, depth }) => ({
      place: [x + width / 2, z + depth / 2],
      color: PALETTE[(maze.zoneOf(x, z) + 1) % PALETTE.length].light,
      phase: random() * 7,
    }));
    this.#balls = Array.from({ length: BALLS }, () => {
      const way = maze.way(anyCell(), anyCell()).slice(0, BALL_WAY_CELLS);
      return { way, phase: random() * 20, color: PALETTE[Math.floor(random() * PALETTE.length)].light };
    });
  }

  /** What a camera {eye, yaw, pitch} sees at a time. */
  seenBy({ eye, yaw, pitch }, timeSecs) {
    const crystals = this.#crystals.map(crystal => crystalAt(crystal, timeSecs));
    const balls = this.#balls.filter(({ way }) => way.length > 1).map(ball => ballAt(ball, timeSecs));
    const glowing = crystals.map(({ place, light }) => ({ place, reach: 3, color: light }));
    const near = [...this.#lamps, ...glowing]
      .map(light => ({ ...light, away: distance(light.place, eye) }))
      .sort((a, b) => a.away - b.away)
      .slice(0, MAX_LIGHTS - 1);
    const lights = near.map(light => ({ ...light, color: faded(light, near.at(-1).away) }));
    const objects = [...crystals, ...balls].filter(({ place }) => distance(place, eye) < SIGHT);
    return { eye, yaw, pitch, objects, lights: [{ place: eye, ...HEAD_LAMP }, ...lights] };
  }
}

const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);

/** Lights fade in before they are the farthest that is shown, so that none pops up. */
const faded = ({ color, away }, farthest) => color.map(value => value * Math.min(1, (1.02 * farthest - away) / 1.2));

function crystalAt({ place: [x, z], color, phase }, timeSecs) {
  const y = 0.55 + 0.07 * Math.sin(1.7 * timeSecs + phase);
  const place = [x, y, z];
  const worldFromModel = turned(place, 0.9 * timeSecs + phase, 0.24, 0.34);
  return { mesh: "crystal", place, worldFromModel, color, glow: 0.55, light: color.map(value => 0.9 * value) };
}

/** Rolling to the end of its way and back. */
function ballAt({ way, phase, color }, timeSecs) {
  const length = way.length - 1;
  const along = (BALL_SPEED * (timeSecs + phase)) % (2 * length);
  const at = along < length ? along : 2 * length - along;
  const [from, to] = [way[Math.floor(at)], way[Math.min(Math.floor(at) + 1, length)]];
  const share = at % 1;
  const [dx, dz] = [to[0] - from[0], to[1] - from[1]];
  const place = [from[0] + 0.5 + share * dx, BALL_RADIUS, from[1] + 0.5 + share * dz];
  const roll = at / BALL_RADIUS;
  const worldFromModel = rolled(place, dx, dz, roll, BALL_RADIUS);
  return { mesh: "ball", place, worldFromModel, color: color.map(value => 0.35 + 0.65 * value), glow: 0.06 };
}

/** Turned about the vertical; `across` and `up` are its size. */
function turned([x, y, z], angle, across, up) {
  const [c, s] = [across * Math.cos(angle), across * Math.sin(angle)];
  return Float32Array.of(c, 0, -s, 0, 0, up, 0, 0, s, 0, c, 0, x, y, z, 1);
}

/** Rolled by an angle towards (dx, dz), a direction along the grid or nowhere. */
function rolled([x, y, z], dx, dz, angle, size) {
  const [c, s] = [size * Math.cos(angle), size * Math.sin(angle)];
  const towardsX = [c, -s, 0, 0, s, c, 0, 0, 0, 0, size, 0];
  const towardsZ = [size, 0, 0, 0, 0, c, s, 0, 0, -s, c, 0];
  const sign = dx + dz < 0 ? -1 : 1;
  const turn = dz ? towardsZ : towardsX;
  const signed = turn.map((value, n) => ([1, 4, 6, 9].includes(n) ? sign * value : value));
  return Float32Array.from([...signed, x, y, z, 1]);
}
