using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Text;
using System.Threading;
using Sgaps.Client.Editor;

namespace Sgaps.Client.Harness
{
    /// <summary>
    /// The core assembly on a command line, for the tests in Python. Answers are lines or files; a failure is an exception.
    /// </summary>
    public static class Program
    {
        private delegate void Command(string[] arguments);

        private static readonly Dictionary<string, Command> Commands = new Dictionary<string, Command>
        {
            { "recode", Recode }, { "frame-json", FrameJson }, { "sample", Sample }, { "png", Png }, { "codes", Codes }, { "stream", Stream },
            { "test-gateway", TestGateway },
        };

        public static void Main(string[] arguments)
        {
            var rest = new string[arguments.Length - 1];
            Array.Copy(arguments, 1, rest, 0, rest.Length);
            Commands[arguments[0]](rest);
        }

        /// <summary>recode TYPE FROM TO: decode a binary message, say what it says in JSON, and write it again.</summary>
        private static void Recode(string[] arguments)
        {
            var bytes = File.ReadAllBytes(arguments[1]);
            var message = new MessageBuffer();
            if (arguments[0] == "frame_data") RecodeFrame(bytes, message);
            else if (arguments[0] == "keyframe") RecodeKeyframe(bytes, message);
            else RecodeCoordinates(bytes, message);
            WriteFirst(arguments[2], message.Bytes, message.Count);
        }

        private static void RecodeFrame(byte[] bytes, MessageBuffer message)
        {
            long named = 0;
            // The test knows how many values follow: what is left behind the head and the state.
            var values = bytes.Length - 36 - 4 * (bytes[32] | bytes[33] << 8);
            var frame = BinaryCodec.DecodeFrame(bytes, bytes.Length, setId => SetOf(named = setId, values));
            Say("{{\"frame_id\":{0},\"coordinate_set_id\":{1},\"timestamp\":{2:R},\"resolution\":[{3},{4}],\"state_vector\":[{5}],\"values\":[{6}]}}",
                frame.FrameId, named, frame.TimestampSecs, frame.Width, frame.Height, Joined(frame.State), Joined(frame.Pixels.Values));
            new BinaryCodec().EncodeFrame(frame, message);
        }

        private static void RecodeKeyframe(byte[] bytes, MessageBuffer message)
        {
            var keyframe = BinaryCodec.DecodeKeyframe(bytes, bytes.Length);
            Say("{{\"frame_id\":{0},\"encoding\":\"{1}\",\"data\":\"{2}\"}}",
                keyframe.FrameId, keyframe.Encoding.ToString().ToLowerInvariant(), Convert.ToBase64String(keyframe.Picture));
            new BinaryCodec().EncodeKeyframe(keyframe, message);
        }

        private static void RecodeCoordinates(byte[] bytes, MessageBuffer message)
        {
            var set = (UVCoordinates)ServerMessages.Decode(bytes, bytes.Length, false);
            var coords = Array.ConvertAll(set.Coords, coord => Formatted("[{0:R},{1:R},{2}]", (double)coord.U, (double)coord.V, coord.SidePx));
            var map = set.Importance;
            Say("{{\"frame_id\":{0},\"coordinate_set_id\":{1},\"predicted_psnr\":{2},\"coords\":[{3}],\"footprints\":{4},\"importance_map\":{5},\"model_version\":\"{6}\"}}",
                set.FrameId, set.SetId, set.PredictedPsnrDb.HasValue ? Formatted("{0:R}", set.PredictedPsnrDb) : "null", string.Join(",", coords),
                set.HasFootprints ? "true" : "false", map == null ? "null" : Formatted("[{0},{1},\"{2}\"]", map.Width, map.Height, Convert.ToBase64String(map.Values)), set.ModelVersion);
            BinaryCodec.EncodeCoordinates(set, message);
        }

        /// <summary>frame-json: read a `uv_coordinates` in JSON from the input, write a `frame_data` and a `keyframe` for it.</summary>
        private static void FrameJson(string[] arguments)
        {
            var bytes = Encoding.UTF8.GetBytes(Console.In.ReadToEnd());
            var pixels = new PixelData();
            pixels.Reset((UVCoordinates)ServerMessages.Decode(bytes, bytes.Length, true));
            for (var i = 0; i < pixels.Count; i++) pixels.Values[i] = (byte)(i * 37);
            var message = new MessageBuffer();
            new JsonCodec().EncodeKeyframe(new KeyframeMessage { FrameId = 7, Encoding = PictureEncoding.Jpeg, Picture = new byte[] { 0, 255, 7 } }, message);
            Console.WriteLine(Encoding.UTF8.GetString(message.Bytes, 0, message.Count));
            var frame = new FrameData { FrameId = 7, Pixels = pixels, State = new[] { 0.1f, -999f, 1e-8f }, StateCount = 3, Width = 64, Height = 48, TimestampSecs = 1764000000.123456 };
            new JsonCodec().EncodeFrame(frame, message);
            Console.WriteLine(Encoding.UTF8.GetString(message.Bytes, 0, message.Count));
        }

        /// <summary>sample LUMA WIDTH HEIGHT ORDER MESSAGE: the values of a binary `uv_coordinates` and, a line each, their rectangles.</summary>
        private static void Sample(string[] arguments)
        {
            int width = int.Parse(arguments[1]), height = int.Parse(arguments[2]);
            var order = (RowOrder)Enum.Parse(typeof(RowOrder), arguments[3]);
            var message = File.ReadAllBytes(arguments[4]);
            var set = BinaryCodec.DecodeCoordinates(message, message.Length);
            var pixels = new PixelData();
            PixelSampler.Sample(File.ReadAllBytes(arguments[0]), width, height, order, set, pixels);
            for (var i = 0; i < pixels.Count; i++)
            {
                var rect = PixelRect.Of(set.Coords[i], width, height, order);
                Say("{0} {1} {2} {3} {4}", pixels.Values[i], rect.X, rect.Y, rect.Width, rect.Height);
            }
        }

        /// <summary>png LUMA WIDTH HEIGHT ORDER TO: encode a keyframe.</summary>
        private static void Png(string[] arguments)
        {
            var order = (RowOrder)Enum.Parse(typeof(RowOrder), arguments[3]);
            var png = GrayPng.Encode(File.ReadAllBytes(arguments[0]), int.Parse(arguments[1]), int.Parse(arguments[2]), order);
            WriteFirst(arguments[4], png, png.Length);
        }

        /// <summary>codes CODE…: a line for each, whether the client comes back after it, and whether it refuses a frame.</summary>
        private static void Codes(string[] arguments)
        {
            foreach (var code in arguments) Say("{0} {1} {2}", code, ErrorCodes.IsWorthRetrying(code), ErrorCodes.RefusesFrame(code));
        }

        /// <summary>stream URL KEY FRAMES [PATTERN]: play a moving picture over a real socket, as a game's main loop would.</summary>
        private static void Stream(string[] arguments)
        {
            var pattern = arguments.Length > 3 ? (SamplingPattern)Enum.Parse(typeof(SamplingPattern), arguments[3]) : (SamplingPattern?)null;
            using (var play = new Play(arguments[0], arguments[1], int.Parse(arguments[2]), pattern)) Say("{0}", play.Run());
        }

        /// <summary>test-gateway URL KEY: what the inspector's button does.</summary>
        private static void TestGateway(string[] arguments)
        {
            var clock = Stopwatch.StartNew();
            using (var test = new GatewayTest(() => clock.Elapsed.TotalSeconds))
            {
                for (test.Start(arguments[0], arguments[1], null); test.IsRunning; test.Poll()) Thread.Sleep(4);
                Say("{0}", test.Report);
            }
        }

        private static UVCoordinates SetOf(long setId, int count)
        {
            var places = new List<string>();
            for (var i = 0; i < count; i++) places.Add("[0,0]");
            var json = "{\"type\":\"uv_coordinates\",\"frame_id\":-1,\"coords\":[" + string.Join(",", places)
                + "],\"coordinate_set_id\":" + setId + ",\"model_version\":\"none\"}";
            var bytes = Encoding.UTF8.GetBytes(json);
            return (UVCoordinates)ServerMessages.Decode(bytes, bytes.Length, true);
        }

        private static string Joined<T>(T[] values)
        {
            return string.Join(",", Array.ConvertAll(values, value => Formatted("{0}", value)));
        }

        internal static string Formatted(string format, params object[] values)
        {
            return string.Format(CultureInfo.InvariantCulture, format, values);
        }

        private static void Say(string format, params object[] values)
        {
            Console.WriteLine(Formatted(format, values));
        }

        private static void WriteFirst(string path, byte[] bytes, int count)
        {
            using (var file = File.Create(path)) file.Write(bytes, 0, count);
        }
    }
}
