using System;
using System.Collections.Generic;
using NUnit.Framework;

namespace Sgaps.Client.Tests
{
    public class SamplingTests
    {
        private static readonly byte[] Picture =
        {
            0, 10, 20, 30,
            40, 50, 60, 70,
            80, 90, 100, 111,
        };

        private static byte Sampled(float u, float v, int sidePx, RowOrder order = RowOrder.TopFirst, byte[] picture = null)
        {
            var pixels = new PixelData();
            var place = FormattableString.Invariant($"[{u:G9},{v:G9},{sidePx}]");
            var set = Wire.Set(Wire.Coordinates.Replace("[0.25,0.5],[0.75,0.5]", place));
            PixelSampler.Sample(picture ?? Picture, 4, 3, order, set, pixels);
            return pixels.Values[0];
        }

        [TestCase(0f, 0f, 0)]
        [TestCase(0.3f, 0.5f, 50)]
        [TestCase(1f, 1f, 111)]
        [TestCase(0.25f, 0f, 10)]
        public void APointIsThePixelThatItLiesIn(float u, float v, int expected)
        {
            Assert.That(Sampled(u, v, 1), Is.EqualTo(expected));
        }

        [TestCase(0.25f, 1 / 3f, 2, 25)]
        [TestCase(0.375f, 1 / 3f, 2, 25)]
        [TestCase(0f, 0f, 2, 0)]
        [TestCase(1f, 1f, 2, 111)]
        [TestCase(0.5f, 0.5f, 64, 55)]
        public void ASquareIsTheMeanOfItsPixelsCutAtTheBorder(float u, float v, int sidePx, int expected)
        {
            Assert.That(Sampled(u, v, sidePx), Is.EqualTo(expected));
        }

        [Test]
        public void AMeanRoundsHalfToEven()
        {
            var picture = new byte[12];
            picture[0] = picture[1] = 1;
            Assert.That(Sampled(0.25f, 1 / 3f, 2, RowOrder.TopFirst, picture), Is.EqualTo(0), "0.5");
            picture[4] = picture[5] = 2;
            Assert.That(Sampled(0.25f, 1 / 3f, 2, RowOrder.TopFirst, picture), Is.EqualTo(2), "1.5");
        }

        [TestCase(0.3f, 0.9f, 1)]
        [TestCase(0.5f, 0.4f, 2)]
        [TestCase(0.1f, 0.2f, 4)]
        public void APictureInMemoryFromTheBottomGivesTheSame(float u, float v, int sidePx)
        {
            var turned = new byte[12];
            for (var y = 0; y < 3; y++) Array.Copy(Picture, 4 * y, turned, 4 * (2 - y), 4);
            Assert.That(Sampled(u, v, sidePx, RowOrder.BottomFirst, turned), Is.EqualTo(Sampled(u, v, sidePx)));
        }

        [Test]
        public void APictureThatIsTooSmallIsRefused()
        {
            Assert.Throws<ArgumentException>(() => Sampled(0, 0, 1, RowOrder.TopFirst, new byte[11]));
        }

        [Test]
        public void ValuesKeepTheirMemory()
        {
            var pixels = new PixelData();
            pixels.Reset(Wire.Set());
            var values = pixels.Values;
            pixels.Reset(Wire.Set());
            Assert.That(ReferenceEquals(pixels.Values, values));
        }

        [TestCase(SamplingPattern.UniformGrid)]
        [TestCase(SamplingPattern.Random)]
        [TestCase(SamplingPattern.Stratified)]
        [TestCase(SamplingPattern.Checkerboard)]
        public void APatternHasExactlySoManyDifferentPixels(SamplingPattern pattern)
        {
            foreach (var count in new[] { 1, 2, 77, 500, 64 * 48 })
            {
                var coords = SamplingPatterns.Create(pattern, count, 64, 48, new Random(1));
                var seen = new HashSet<int>();
                foreach (var coord in coords) seen.Add((int)(coord.V * 48) * 64 + (int)(coord.U * 64));
                Assert.That(coords.Length, Is.EqualTo(count));
                Assert.That(seen.Count, Is.EqualTo(count));
            }
        }

        [Test]
        public void RandomPixelsAreDrawnWithoutAListOfAll()
        {
            SamplingPatterns.Create(SamplingPattern.Random, 500, 1920, 1080, new Random(0));
            var allocatedBytes = GC.GetAllocatedBytesForCurrentThread();
            SamplingPatterns.Create(SamplingPattern.Random, 500, 1920, 1080, new Random(0));
            Assert.That(GC.GetAllocatedBytesForCurrentThread() - allocatedBytes, Is.LessThan(1920 * 1080 / 4), "a list has four bytes for each");
        }

        [Test]
        public void RandomPixelsAreOfAllThereAre()
        {
            var drawn = new int[12];
            var random = new Random(0);
            for (var i = 0; i < 3000; i++)
            {
                foreach (var coord in SamplingPatterns.Create(SamplingPattern.Random, 4, 4, 3, random)) drawn[(int)(coord.V * 3) * 4 + (int)(coord.U * 4)]++;
            }
            Assert.That(drawn, Is.All.InRange(850, 1150), "1000 on average, give or take six standard deviations");
        }

        [Test]
        public void AGridIsEven()
        {
            var coords = SamplingPatterns.Create(SamplingPattern.UniformGrid, 4, 8, 8, new Random(0));
            Assert.That(Array.ConvertAll(coords, coord => coord.U), Is.EqualTo(new[] { 2.5f / 8, 6.5f / 8, 2.5f / 8, 6.5f / 8 }));
            Assert.That(Array.ConvertAll(coords, coord => coord.V), Is.EqualTo(new[] { 2.5f / 8, 2.5f / 8, 6.5f / 8, 6.5f / 8 }));
        }

        [Test]
        public void OnACheckerboardNoTwoCellsTouch()
        {
            var coords = SamplingPatterns.Create(SamplingPattern.Checkerboard, 8, 4, 4, new Random(0));
            foreach (var coord in coords) Assert.That(((int)(coord.U * 4) + (int)(coord.V * 4)) % 2, Is.EqualTo(0));
        }

        [Test]
        public void AStratifiedPatternHasOnePixelInEveryCell()
        {
            var coords = SamplingPatterns.Create(SamplingPattern.Stratified, 16, 64, 64, new Random(3));
            var cells = new HashSet<int>();
            foreach (var coord in coords) cells.Add((int)(coord.V * 4) * 4 + (int)(coord.U * 4));
            Assert.That(cells.Count, Is.EqualTo(16));
        }

        [TestCase(1.1f, 0.5f, 1)]
        [TestCase(0.5f, float.NaN, 1)]
        [TestCase(0.5f, 0.5f, 2)]
        public void AGameChoosesPointsInsideThePicture(float u, float v, int sidePx)
        {
            Assert.Throws<ArgumentException>(() => UVCoordinates.OwnChoice(new[] { new UVCoordinate(u, v, sidePx) }));
        }

        [TestCase(0)]
        [TestCase(13)]
        public void APictureHasNoMoreSamplesThanPixels(int count)
        {
            Assert.Throws<ArgumentOutOfRangeException>(() => SamplingPatterns.Create(SamplingPattern.Random, count, 4, 3, new Random(0)));
        }
    }
}
