using System;
using System.Collections.Generic;

namespace Sgaps.Client
{
    /// <summary>Patterns that look at no picture, as the server names them.</summary>
    public enum SamplingPattern
    {
        /// <summary>The centre of every cell of a grid.</summary>
        UniformGrid,

        /// <summary>Pixels drawn at random.</summary>
        Random,

        /// <summary>A random pixel in every cell of a grid.</summary>
        Stratified,

        /// <summary>Every other cell of a grid with twice as many.</summary>
        Checkerboard,
    }

    /// <summary>
    /// Points of a game's own choosing, to compare the server's with. A grid seldom has exactly as many cells as asked
    /// for: what is too much is thinned evenly, what is missing filled at random.
    /// </summary>
    public static class SamplingPatterns
    {
        /// <summary>
        /// Exactly `count` different pixels of the picture as points. Throws ArgumentOutOfRangeException if it has fewer.
        /// </summary>
        public static UVCoordinate[] Create(SamplingPattern pattern, int count, int width, int height, Random random)
        {
            if (count < 1 || count > width * height)
            {
                throw new ArgumentOutOfRangeException("count", count + " samples of " + width + "x" + height + " pixels");
            }
            var pixels = new SortedSet<int>(Pixels(pattern, count, width, height, random));
            var exact = pixels.Count >= count ? Thinned(pixels, count) : Filled(pixels, count, width * height, random);
            return Centres(exact, width, height);
        }

        private static IEnumerable<int> Pixels(SamplingPattern pattern, int count, int width, int height, Random random)
        {
            switch (pattern)
            {
                case SamplingPattern.UniformGrid: return Cells(count, width, height, 1, null);
                case SamplingPattern.Stratified: return Cells(count, width, height, 1, random);
                case SamplingPattern.Checkerboard: return Cells(Math.Min(2 * count, width * height), width, height, 2, null);
                case SamplingPattern.Random: return new int[0];
                default: throw new ArgumentOutOfRangeException("pattern");
            }
        }

        // One pixel of each cell, in its middle without `random`; of `colors` colors of a chess board, one.
        private static IEnumerable<int> Cells(int count, int width, int height, int colors, Random random)
        {
            var columns = Math.Min(width, Math.Max(1, (int)Math.Round(Math.Sqrt((double)count * width / height))));
            var rows = Math.Min(height, (count + columns - 1) / columns);
            columns = Math.Min(width, (count + rows - 1) / rows);
            for (var cell = 0; cell < rows * columns; cell++)
            {
                int row = cell / columns, column = cell % columns;
                if ((row + column) % colors != 0) continue;
                yield return Inside(row, rows, height, random) * width + Inside(column, columns, width, random);
            }
        }

        private static int Inside(int cell, int cells, int length, Random random)
        {
            var offset = random == null ? 0.5 : random.NextDouble();
            return Math.Min((int)((cell + offset) * length / cells), length - 1);
        }

        private static IEnumerable<int> Thinned(SortedSet<int> pixels, int count)
        {
            var all = new int[pixels.Count];
            pixels.CopyTo(all);
            var step = count > 1 ? (all.Length - 1) / (double)(count - 1) : 0;
            for (var i = 0; i < count; i++) yield return all[(int)Math.Round(i * step)];
        }

        private static IEnumerable<int> Filled(SortedSet<int> pixels, int count, int pixelCount, Random random)
        {
            // Floyd's way to draw without repetition, from what is not taken yet.
            var free = pixelCount - pixels.Count;
            var drawn = new SortedSet<int>();
            for (var last = free - (count - pixels.Count); last < free; last++)
            {
                var candidate = random.Next(last + 1);
                if (!drawn.Add(candidate)) drawn.Add(last);
            }
            pixels.UnionWith(new List<int>(FreePixels(drawn, pixels)));
            return pixels;
        }

        // The pixels that are the first, second... of the free ones, without a list of them: it would be as long as the picture.
        private static IEnumerable<int> FreePixels(SortedSet<int> ranks, SortedSet<int> taken)
        {
            var takenBefore = 0;
            using (var next = taken.GetEnumerator())
            {
                var isTaken = next.MoveNext();
                foreach (var rank in ranks)
                {
                    for (; isTaken && next.Current <= rank + takenBefore; isTaken = next.MoveNext()) takenBefore++;
                    yield return rank + takenBefore;
                }
            }
        }

        private static UVCoordinate[] Centres(IEnumerable<int> pixels, int width, int height)
        {
            var coords = new List<UVCoordinate>();
            foreach (var pixel in pixels)
            {
                coords.Add(new UVCoordinate((pixel % width + 0.5f) / width, (pixel / width + 0.5f) / height));
            }
            return coords.ToArray();
        }
    }
}
