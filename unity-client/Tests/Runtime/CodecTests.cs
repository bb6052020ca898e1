using System;
using System.Diagnostics;
using System.Text;
using NUnit.Framework;

namespace Sgaps.Client.Tests
{
    public class CodecTests
    {
        private static readonly string Squares = Wire.Coordinates.Replace("[0.25,0.5],[0.75,0.5]", "[0.25,0.5,4],[0,1,64]")
            .Replace("\"importance_map\":null", "\"importance_map\":{\"width\":2,\"height\":1,\"data\":\"AP8=\"}")
            .Replace("\"predicted_psnr\":null", "\"predicted_psnr\":27.5");

        private static FrameData Frame(UVCoordinates set)
        {
            var pixels = new PixelData();
            pixels.Reset(set);
            pixels.Values[0] = 255;
            pixels.Values[1] = 51;
            return new FrameData
            {
                FrameId = 7, Pixels = pixels, State = new[] { 1.5f, -999f, 3f }, StateCount = 2, Width = 320, Height = 240, TimestampSecs = 12.25,
            };
        }

        [Test]
        public void ALongStringIsReadInATimeThatGrowsWithItsLengthOnly()
        {
            var process = Process.GetCurrentProcess();
            Func<int, int, double> readMs = (times, length) =>
            {
                var error = Wire.Error("x", false).Replace("\"m\"", "\"" + new string('m', length) + "\"");
                process.Refresh();
                var before = process.TotalProcessorTime;
                for (var i = 0; i < times; i++) Wire.Decode(error);
                process.Refresh();
                return (process.TotalProcessorTime - before).TotalMilliseconds;
            };
            readMs(100, 1000);
            var shortMs = readMs(4000, 1000);
            Assert.That(readMs(1, 4000000), Is.LessThan(6 * shortMs), "as many characters");
        }

        [Test]
        public void CoordinatesSurviveTheBinaryForm()
        {
            var bytes = Wire.Written(message => BinaryCodec.EncodeCoordinates(Wire.Set(Squares), message));
            var read = BinaryCodec.DecodeCoordinates(bytes, bytes.Length);
            Assert.That(read.Coords[0].U, Is.EqualTo(0.25).Within(1e-5));
            Assert.That(new[] { read.Coords[0].SidePx, read.Coords[1].SidePx }, Is.EqualTo(new[] { 4, 64 }));
            Assert.That(read.HasFootprints);
            Assert.That(read.Importance.Values, Is.EqualTo(new byte[] { 0, 255 }));
            Assert.That(read.PredictedPsnrDb, Is.EqualTo(27.5));
            Assert.That(read.FrameId, Is.EqualTo(-1));
            Assert.That(read.SetId, Is.EqualTo(1));
            Assert.That(read.ModelVersion, Is.EqualTo("telea"));
        }

        [Test]
        public void AFrameSurvivesTheBinaryForm()
        {
            var frame = Frame(Wire.Set());
            var bytes = Wire.Written(message => new BinaryCodec().EncodeFrame(frame, message));
            Assert.That(bytes.Length, Is.EqualTo(36 + 2 * 4 + 2));
            var read = BinaryCodec.DecodeFrame(bytes, bytes.Length, setId => Wire.Set());
            Assert.That(read.FrameId, Is.EqualTo(7));
            Assert.That(read.State, Is.EqualTo(new[] { 1.5f, -999f }));
            Assert.That(read.Pixels.Values, Is.EqualTo(new byte[] { 255, 51 }));
            Assert.That(read.TimestampSecs, Is.EqualTo(12.25));
        }

        [Test]
        public void AnyCutOrLongerMessageIsRefused()
        {
            var bytes = Wire.Written(message => BinaryCodec.EncodeCoordinates(Wire.Set(Squares), message));
            for (var count = 0; count < bytes.Length; count++)
            {
                Assert.Throws<ProtocolException>(() => BinaryCodec.DecodeCoordinates(bytes, count), "at " + count);
            }
            var longer = new byte[bytes.Length + 1];
            bytes.CopyTo(longer, 0);
            Assert.Throws<ProtocolException>(() => BinaryCodec.DecodeCoordinates(longer, longer.Length));
        }

        [TestCase(0, (byte)'X', "bad_message")]
        [TestCase(2, (byte)2, "bad_message")]
        [TestCase(30, (byte)4, "bad_message")]
        [TestCase(23, (byte)0xff, "bad_message")]
        [TestCase(19, (byte)0x80, "bad_message")]
        [TestCase(40, (byte)7, "bad_message")]
        [TestCase(44, (byte)0xff, "bad_message")]
        public void AWrongByteIsRefused(int at, byte value, string code)
        {
            var bytes = Wire.Written(message => BinaryCodec.EncodeCoordinates(Wire.Set(Squares), message));
            bytes[at] = value;
            if (at == 23) bytes[22] = 0xff;
            var error = Assert.Throws<ProtocolException>(() => BinaryCodec.DecodeCoordinates(bytes, bytes.Length));
            Assert.That(error.Code, Is.EqualTo(code));
        }

        [Test]
        public void JsonFramesCarryTheirCoordinates()
        {
            var points = Encoding.UTF8.GetString(Wire.Written(message => new JsonCodec().EncodeFrame(Frame(Wire.Set()), message)));
            Assert.That(points, Is.EqualTo(
                "{\"type\":\"frame_data\",\"frame_id\":7,\"pixels\":[[0.25,0.5,1],[0.75,0.5,0.2]],\"state_vector\":[1.5,-999],"
                + "\"resolution\":[320,240],\"timestamp\":12.25,\"coordinate_set_id\":1}"));
            var squares = Encoding.UTF8.GetString(Wire.Written(message => new JsonCodec().EncodeFrame(Frame(Wire.Set(Squares)), message)));
            StringAssert.Contains("[0.25,0.5,1,4],[0,1,0.2,64]", squares);
        }

        [Test]
        public void TheSessionIsIntroduced()
        {
            var config = new SessionConfig { CheckpointKey = "doom", Width = 8, Height = 6, MaxStateDim = 3, AuthToken = "a\"\\\n\u00e9" };
            var start = new SessionStart { Config = config };
            Assert.That(Encoding.UTF8.GetString(Wire.Written(message => JsonCodec.EncodeStart(start, message))), Is.EqualTo(
                "{\"type\":\"session_start\",\"checkpoint_key\":\"doom\",\"resolution\":[8,6],\"max_state_dim\":3,"
                + "\"auth_token\":\"a\\\"\\\\\\u000a\u00e9\",\"client\":{\"name\":\"com.sgaps.client\",\"version\":\"" + JsonCodec.ClientVersion + "\",\"features\":[]}}"));
        }

        [Test]
        public void ControlMessagesAreRead()
        {
            var ack = (SessionStartAck)Wire.Decode(Wire.Ack(true, 41));
            Assert.That(ack.SessionId, Is.EqualTo("s-1"));
            Assert.That(ack.LastFrameId, Is.EqualTo(41));
            Assert.That(ack.Resumed && ack.CheckpointLoaded);
            Assert.That(ack.TargetFps, Is.EqualTo(20));
            Assert.That(ack.Features, Is.EqualTo(new[] { "footprint" }));
            var error = (ErrorMessage)Wire.Decode(Wire.Error("overloaded", false, "1.5"));
            Assert.That(error.RetryAfterSecs, Is.EqualTo(1.5));
            Assert.That(error.IsFatal, Is.False);
            var beat = (HeartbeatAck)Wire.Decode(
                "{\"type\":\"heartbeat_ack\",\"timestamp\":1.5,\"server_time\":2e0,\"last_recorded_frame_id\":-1,\"target_fps\":5,\"later\":[{}]}");
            Assert.That(beat.TimestampSecs, Is.EqualTo(1.5));
        }

        [TestCase("")]
        [TestCase("{")]
        [TestCase("{\"type\":\"error\",}")]
        [TestCase("{\"type\":\"error\"} x")]
        [TestCase("{\"type\":NaN}")]
        [TestCase("{\"type\":1e400}")]
        [TestCase("{\"type\":01}")]
        [TestCase("{\"type\":.5}")]
        [TestCase("{\"type\":\"error\",\"type\":\"error\"}")]
        [TestCase("{\"type\":\"\\ud800\"}")]
        [TestCase("{\"type\":\"a\nb\"}")]
        [TestCase("{\"type\":\"\\x\"}")]
        [TestCase("[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]")]
        public void TextThatIsNoJsonIsRefused(string text)
        {
            Assert.That(Assert.Throws<ProtocolException>(() => Wire.Decode(text)).Code, Is.EqualTo("bad_json"));
        }

        [TestCase("\"session_id\":\"s-1\"", "\"session_id\":\"../x\"")]
        [TestCase("\"session_id\":\"s-1\",", "")]
        [TestCase("\"resumed\":false", "\"resumed\":0")]
        [TestCase("\"target_fps\":20.0", "\"target_fps\":0")]
        [TestCase("\"target_fps\":20.0", "\"target_fps\":1e-300")]
        [TestCase("\"target_fps\":20.0", "\"target_fps\":10001")]
        [TestCase("\"target_fps\":20.0", "\"target_fps\":\"20\"")]
        [TestCase("\"keyframe_interval\":3", "\"keyframe_interval\":2.5")]
        [TestCase("\"max_state_dim\":2", "\"max_state_dim\":-1")]
        [TestCase("[\"footprint\"]", "[1]")]
        public void AnAckWithAWrongFieldIsRefused(string right, string wrong)
        {
            var error = Assert.Throws<ProtocolException>(() => Wire.Decode(Wire.Ack().Replace(right, wrong)));
            Assert.That(error.Code, Is.EqualTo("bad_message"));
        }

        [TestCase("0.001", 0.001)]
        [TestCase("10000.0", 10000)]
        public void AnyRateThatTheProtocolAllowsIsTaken(string fps, double expected)
        {
            Assert.That(((SessionStartAck)Wire.Decode(Wire.Ack().Replace("20.0", fps))).TargetFps, Is.EqualTo(expected));
        }

        [TestCase("[0.25,0.5]", "[0.25,1.5]")]
        [TestCase("[0.25,0.5]", "[0.25]")]
        [TestCase("[0.25,0.5]", "[0.25,0.5,3]")]
        [TestCase("[0.25,0.5]", "[0.25,0.5,128]")]
        [TestCase("[0.25,0.5]", "null")]
        [TestCase("\"importance_map\":null", "\"importance_map\":{\"width\":2,\"height\":2,\"data\":\"AP8=\"}")]
        [TestCase("\"importance_map\":null", "\"importance_map\":{\"width\":2,\"height\":2,\"data\":\"?\"}")]
        public void CoordinatesOutsideThePictureAreRefused(string right, string wrong)
        {
            var error = Assert.Throws<ProtocolException>(() => Wire.Set(Wire.Coordinates.Replace(right, wrong)));
            Assert.That(error.Code, Is.EqualTo("bad_message"));
        }

        [Test]
        public void BytesThatAreNoTextAreRefused()
        {
            var bytes = new byte[] { (byte)'"', 0xff, (byte)'"' };
            Assert.Throws<ProtocolException>(() => ServerMessages.Decode(bytes, bytes.Length, true));
        }

        [Test]
        public void AFrameInBinaryMakesNoGarbage()
        {
            var codec = new BinaryCodec();
            var message = new MessageBuffer();
            var frame = Frame(Wire.Set());
            codec.EncodeFrame(frame, message);
            var collections = GC.CollectionCount(0);
            // Of a single small object each, this would be several times the memory that starts a collection.
            for (var i = 0; i < 1000000; i++) codec.EncodeFrame(frame, message);
            Assert.That(GC.CollectionCount(0), Is.EqualTo(collections));
        }
    }
}
