using System;

namespace Sgaps.Client
{
    /// <summary>The binary form of `frame_data`, `keyframe` and `uv_coordinates`, byte by byte as docs/protocol.md has it.</summary>
    public sealed class BinaryCodec : IMessageCodec
    {
        private const int Version = 1;
        private const int KindFrame = 1;
        private const int KindKeyframe = 2;
        private const int KindCoordinates = 3;
        private const int HasFootprints = 1;
        private const int HasPsnr = 2;
        private const int MaxLevel = 6;
        private const float UvSteps = 65535f;

        /// <summary>Write values only: the server knows the set. Allocates nothing once the buffer has grown.</summary>
        public void EncodeFrame(FrameData frame, MessageBuffer message)
        {
            Head(message, KindFrame);
            message.Int64(frame.FrameId);
            message.Int64(frame.Pixels.Coordinates.SetId);
            message.Float64(frame.TimestampSecs);
            message.UInt16(frame.Width);
            message.UInt16(frame.Height);
            message.UInt16(frame.StateCount);
            message.UInt16(frame.Pixels.Count);
            for (var i = 0; i < frame.StateCount; i++) message.Float32(frame.State[i]);
            message.Raw(frame.Pixels.Values, frame.Pixels.Count);
        }

        /// <inheritdoc/>
        public void EncodeKeyframe(KeyframeMessage keyframe, MessageBuffer message)
        {
            Head(message, KindKeyframe);
            message.Int64(keyframe.FrameId);
            message.UInt8((int)keyframe.Encoding);
            for (var i = 0; i < 3; i++) message.UInt8(0);
            message.UInt32((uint)keyframe.Picture.Length);
            message.Raw(keyframe.Picture, keyframe.Picture.Length);
        }

        /// <summary>Write a `uv_coordinates`; what a server does.</summary>
        public static void EncodeCoordinates(UVCoordinates chosen, MessageBuffer message)
        {
            var version = System.Text.Encoding.UTF8.GetBytes(chosen.ModelVersion);
            var map = chosen.Importance ?? new ImportanceMap(0, 0, new byte[0]);
            Head(message, KindCoordinates);
            message.Int64(chosen.FrameId);
            message.Int64(chosen.SetId);
            message.Float32((float)(chosen.PredictedPsnrDb ?? 0));
            message.UInt16(chosen.Coords.Length);
            message.UInt16(map.Width);
            message.UInt16(map.Height);
            message.UInt8((chosen.HasFootprints ? HasFootprints : 0) | (chosen.PredictedPsnrDb.HasValue ? HasPsnr : 0));
            message.UInt8(version.Length);
            EncodePlaces(chosen, message);
            message.Raw(map.Values, map.Values.Length);
            message.Raw(version, version.Length);
        }

        private static void EncodePlaces(UVCoordinates chosen, MessageBuffer message)
        {
            foreach (var coord in chosen.Coords)
            {
                message.UInt16((int)Math.Round((double)coord.U * UvSteps));
                message.UInt16((int)Math.Round((double)coord.V * UvSteps));
            }
            if (!chosen.HasFootprints) return;
            foreach (var coord in chosen.Coords) message.UInt8((int)Math.Round(Math.Log(coord.SidePx, 2)));
        }

        /// <summary>Read what the server sent; null of another kind. Throws ProtocolException.</summary>
        public static UVCoordinates DecodeCoordinates(byte[] bytes, int count)
        {
            int kind;
            var parser = Opened(bytes, count, out kind);
            if (kind != KindCoordinates) return null;
            var frameId = parser.Int64();
            var setId = parser.Int64();
            var psnrDb = parser.Float32();
            var places = parser.UInt16();
            var width = parser.UInt16();
            var height = parser.UInt16();
            var flags = parser.UInt8();
            var versionLength = parser.UInt8();
            Check((flags & ~(HasFootprints | HasPsnr)) == 0, "unknown flags");
            Check(frameId >= -1 && frameId <= ProtocolLimits.MaxFrameId, "no such frame id");
            Check(setId >= 0 && setId <= ProtocolLimits.MaxSetId, "no such set id");
            Check(!float.IsNaN(psnrDb) && !float.IsInfinity(psnrDb), "predicted PSNR is not finite");
            var bytesPerPlace = (flags & HasFootprints) != 0 ? 5 : 4;
            var expected = (long)places * bytesPerPlace + (long)width * height + versionLength;
            Check(parser.Remaining == expected, parser.Remaining + " bytes of arrays, not " + expected);
            return new UVCoordinates(Places(ref parser, places, flags), (flags & HasFootprints) != 0)
            {
                FrameId = frameId,
                SetId = setId,
                PredictedPsnrDb = (flags & HasPsnr) != 0 ? psnrDb : (double?)null,
                Importance = width * height > 0 ? new ImportanceMap(width, height, parser.Raw(width * height)) : null,
                ModelVersion = parser.Text(versionLength),
            };
        }

        private static UVCoordinate[] Places(ref MessageParser parser, int count, int flags)
        {
            var coords = new UVCoordinate[count];
            for (var i = 0; i < count; i++)
            {
                var u = parser.UInt16() / UvSteps;
                coords[i] = new UVCoordinate(u, parser.UInt16() / UvSteps);
            }
            if ((flags & HasFootprints) == 0) return coords;
            for (var i = 0; i < count; i++)
            {
                var level = parser.UInt8();
                Check(level <= MaxLevel, "no such footprint");
                coords[i] = new UVCoordinate(coords[i].U, coords[i].V, 1 << level);
            }
            return coords;
        }

        /// <summary>Read a `frame_data` that sampled this set; what a server does. Throws ProtocolException.</summary>
        public static FrameData DecodeFrame(byte[] bytes, int count, Func<long, UVCoordinates> setOf)
        {
            var parser = Opened(bytes, count, KindFrame);
            var frame = new FrameData { FrameId = parser.Int64(), Pixels = new PixelData() };
            var set = setOf(parser.Int64());
            frame.TimestampSecs = parser.Float64();
            frame.Width = parser.UInt16();
            frame.Height = parser.UInt16();
            frame.StateCount = parser.UInt16();
            var places = parser.UInt16();
            Check(frame.FrameId >= 0 && frame.FrameId <= ProtocolLimits.MaxFrameId, "no such frame id");
            Check(places == set.Coords.Length, places + " values; the set has " + set.Coords.Length);
            Check(parser.Remaining == 4 * frame.StateCount + places, parser.Remaining + " bytes of arrays");
            frame.State = new float[frame.StateCount];
            for (var i = 0; i < frame.StateCount; i++) frame.State[i] = parser.Float32();
            frame.Pixels.Reset(set);
            parser.Raw(places).CopyTo(frame.Pixels.Values, 0);
            return frame;
        }

        /// <summary>Read a `keyframe`; what a server does. Throws ProtocolException.</summary>
        public static KeyframeMessage DecodeKeyframe(byte[] bytes, int count)
        {
            var parser = Opened(bytes, count, KindKeyframe);
            var keyframe = new KeyframeMessage { FrameId = parser.Int64(), Encoding = (PictureEncoding)parser.UInt8() };
            Check(Enum.IsDefined(typeof(PictureEncoding), keyframe.Encoding), "no such encoding");
            parser.Raw(3);
            var length = parser.UInt32();
            Check(parser.Remaining == length, parser.Remaining + " bytes of picture, not " + length);
            keyframe.Picture = parser.Raw((int)length);
            return keyframe;
        }

        private static void Head(MessageBuffer message, int kind)
        {
            message.Begin(false);
            message.UInt8('S');
            message.UInt8('G');
            message.UInt8(Version);
            message.UInt8(kind);
        }

        private static MessageParser Opened(byte[] bytes, int count, int expectedKind)
        {
            int kind;
            var parser = Opened(bytes, count, out kind);
            if (kind == expectedKind) return parser;
            throw new ProtocolException(ErrorCodes.UnknownType, "kind " + kind + ", not " + expectedKind);
        }

        private static MessageParser Opened(byte[] bytes, int count, out int kind)
        {
            var parser = new MessageParser(bytes, count);
            Check(parser.UInt8() == 'S' && parser.UInt8() == 'G', "begins with other letters than SG");
            var version = parser.UInt8();
            Check(version == Version, "version " + version + ", not " + Version);
            kind = parser.UInt8();
            return parser;
        }

        private static void Check(bool holds, string otherwise)
        {
            if (!holds) throw ProtocolException.BadMessage("binary message: " + otherwise);
        }
    }
}
