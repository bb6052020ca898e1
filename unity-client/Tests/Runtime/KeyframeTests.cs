using System;
using NUnit.Framework;

namespace Sgaps.Client.Tests
{
    public class KeyframeTests
    {
        [Test]
        public void AKeyframeBeginsAsAPngOfItsSize()
        {
            var png = GrayPng.Encode(new byte[6], 3, 2, RowOrder.TopFirst);
            Assert.That(BitConverter.ToString(png, 0, 26), Is.EqualTo(
                "89-50-4E-47-0D-0A-1A-0A-00-00-00-0D-49-48-44-52-00-00-00-03-00-00-00-02-08-00"));
        }

        [Test]
        public void RowsFromTheBottomGiveTheSamePicture()
        {
            var upright = GrayPng.Encode(new byte[] { 1, 2, 3, 4, 5, 6 }, 3, 2, RowOrder.TopFirst);
            var turned = GrayPng.Encode(new byte[] { 4, 5, 6, 1, 2, 3 }, 3, 2, RowOrder.BottomFirst);
            Assert.That(turned, Is.EqualTo(upright));
        }
    }
}
