using System;

namespace Sgaps.Client
{
    /// <summary>Which row of a picture its memory begins with.</summary>
    public enum RowOrder
    {
        /// <summary>As the protocol and Direct3D, Metal and Vulkan have it.</summary>
        TopFirst,

        /// <summary>As OpenGL has it.</summary>
        BottomFirst,
    }

    /// <summary>The pixels that one sample is the mean of, in the rows and columns of memory.</summary>
    public struct PixelRect
    {
        /// <summary>First column.</summary>
        public int X;

        /// <summary>First row in memory.</summary>
        public int Y;

        /// <summary>Columns, at least 1.</summary>
        public int Width;

        /// <summary>Rows, at least 1.</summary>
        public int Height;

        /// <summary>Bytes of one rectangle in a graphics buffer.</summary>
        public const int SizeBytes = 16;

        /// <summary>
        /// The rectangle of a coordinate in a picture of so many pixels: the definition of docs/protocol.md. This is the
        /// only place where v is turned over, for pictures whose memory begins at the bottom.
        /// </summary>
        public static PixelRect Of(UVCoordinate coord, int width, int height, RowOrder order)
        {
            int x, y, columns, rows;
            Span(coord.U, coord.SidePx, width, out x, out columns);
            Span(coord.V, coord.SidePx, height, out y, out rows);
            if (order == RowOrder.BottomFirst) y = height - y - rows;
            return new PixelRect { X = x, Y = y, Width = columns, Height = rows };
        }

        private static void Span(double centre, int sidePx, int length, out int first, out int count)
        {
            var at = centre * length;
            // Half to even, as numpy rounds.
            var begin = sidePx == 1 ? Math.Min((int)at, length - 1) : (int)Math.Round(at - sidePx / 2.0);
            var end = Math.Min(begin + sidePx, length);
            first = Math.Max(begin, 0);
            count = end - first;
        }
    }
}
