using System;

namespace Sgaps.Client
{
    /// <summary>
    /// Reads samples out of a whole gray picture on the CPU: where the graphics device cannot gather them, and on
    /// keyframes, whose picture is read back anyway. The compute shader Gather is its twin.
    /// </summary>
    public static class PixelSampler
    {
        /// <summary>
        /// Fill `pixels` with the values of `coordinates` in `luma`, width × height bytes. Throws ArgumentException where
        /// the picture has another size. Allocates nothing once `pixels` has held a set of this size.
        /// </summary>
        public static void Sample(byte[] luma, int width, int height, RowOrder order, UVCoordinates coordinates, PixelData pixels)
        {
            if (luma.Length < width * height) throw new ArgumentException(luma.Length + " bytes for " + width + "x" + height, "luma");
            pixels.Reset(coordinates);
            for (var i = 0; i < pixels.Count; i++)
            {
                pixels.Values[i] = Mean(luma, width, PixelRect.Of(coordinates.Coords[i], width, height, order));
            }
        }

        private static byte Mean(byte[] luma, int width, PixelRect rect)
        {
            var sum = 0;
            for (var y = rect.Y; y < rect.Y + rect.Height; y++)
            {
                for (var x = rect.X; x < rect.X + rect.Width; x++) sum += luma[y * width + x];
            }
            return RoundedQuotient(sum, rect.Width * rect.Height);
        }

        /// <summary>sum / count to the nearest integer, half to even, as numpy rounds.</summary>
        internal static byte RoundedQuotient(int sum, int count)
        {
            var quotient = sum / count;
            var twiceRest = 2 * (sum % count);
            var roundsUp = twiceRest > count || (twiceRest == count && quotient % 2 == 1);
            return (byte)(roundsUp ? quotient + 1 : quotient);
        }
    }
}
