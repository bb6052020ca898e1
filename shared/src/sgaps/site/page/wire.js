// What comes over /ws/view; docs/protocol.md has the bytes.

const MAGIC = 0x5347, VERSION = 1, VIEW = 4, HEAD_BYTES = 8, SAMPLE_BYTES = 6, STEPS = 65535;
const PARTS = ["reconstruction", "samples", "importance", "true_frame"];

/** The header of a binary view, and its parts as bytes that share the message's memory. */
export function readView(buffer) {
  const head = new DataView(buffer);
  if (head.getUint16(0) !== MAGIC || head.getUint8(2) !== VERSION || head.getUint8(3) !== VIEW) {
    throw new Error("not a view of a version that this page knows: load it again");
  }
  const headerBytes = head.getUint32(4, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, HEAD_BYTES, headerBytes)));
  let at = HEAD_BYTES + headerBytes;
  const view = { header };
  for (const name of PARTS) {
    view[name] = new Uint8Array(buffer, at, header.parts[name]);
    at += header.parts[name];
  }
  return view;
}

/** How many samples came with a view. */
export const sampleCount = ({ parts }) => parts.samples / SAMPLE_BYTES;

/** The samples of a view as squares in pixels: {left, top, side, value}, value in 0..255. */
export function squares({ header, samples }) {
  const { width, height } = header;
  const data = new DataView(samples.buffer, samples.byteOffset, samples.byteLength);
  return Array.from({ length: samples.byteLength / SAMPLE_BYTES }, (_, index) => {
    const at = index * SAMPLE_BYTES, side = 2 ** data.getUint8(at + 5);
    const x = data.getUint16(at, true) / STEPS * width, y = data.getUint16(at + 2, true) / STEPS * height;
    return { left: firstPixel(x, side, width), top: firstPixel(y, side, height), side, value: data.getUint8(at + 4) };
  });
}

function firstPixel(at, side, length) {
  return side === 1 ? Math.min(Math.floor(at), length - 1) : Math.round(at - side / 2);
}
