using System;
using Sgaps.Client.Json;

namespace Sgaps.Client
{
    /// <summary>The JSON form: the bulky messages where the server speaks it, the control messages in both forms.</summary>
    public sealed class JsonCodec : IMessageCodec
    {
        private const string ClientName = "com.sgaps.client";

        /// <summary>The version in package.json.</summary>
        public const string ClientVersion = "0.1.0";

        /// <summary>Write the coordinates beside their values. Makes garbage: prefer the binary form in a game.</summary>
        public void EncodeFrame(FrameData frame, MessageBuffer message)
        {
            var json = Typed("frame_data").Name("frame_id").Integer(frame.FrameId);
            Pixels(frame.Pixels, json.Name("pixels"));
            json.Name("state_vector").Begin('[');
            for (var i = 0; i < frame.StateCount; i++) json.Number(frame.State[i]);
            json.End(']');
            Resolution(frame.Width, frame.Height, json);
            json.Name("timestamp").Number(frame.TimestampSecs);
            json.Name("coordinate_set_id").Integer(frame.Pixels.Coordinates.SetId);
            message.Text(json.End('}').ToString());
        }

        private static void Pixels(PixelData pixels, JsonWriter json)
        {
            json.Begin('[');
            for (var i = 0; i < pixels.Count; i++)
            {
                var coord = pixels.Coordinates.Coords[i];
                json.Begin('[').Fraction(coord.U).Fraction(coord.V).Fraction(pixels.Values[i] / 255.0);
                if (pixels.Coordinates.HasFootprints) json.Integer(coord.SidePx);
                json.End(']');
            }
            json.End(']');
        }

        /// <inheritdoc/>
        public void EncodeKeyframe(KeyframeMessage keyframe, MessageBuffer message)
        {
            var json = Typed("keyframe").Name("frame_id").Integer(keyframe.FrameId);
            json.Name("encoding").Text(keyframe.Encoding == PictureEncoding.Png ? "png" : "jpeg");
            json.Name("data").Text(Convert.ToBase64String(keyframe.Picture));
            message.Text(json.End('}').ToString());
        }

        /// <summary>Write a `session_start`.</summary>
        public static void EncodeStart(SessionStart start, MessageBuffer message)
        {
            var config = start.Config;
            var json = Typed("session_start").Name("checkpoint_key").Text(config.CheckpointKey);
            Resolution(config.Width, config.Height, json);
            json.Name("max_state_dim").Integer(config.MaxStateDim);
            if (!string.IsNullOrEmpty(config.AuthToken)) json.Name("auth_token").Text(config.AuthToken);
            json.Name("client").Begin('{').Name("name").Text(ClientName).Name("version").Text(ClientVersion);
            json.Name("features").Begin('[');
            if (start.OffersFootprint) json.Text(Features.Footprint);
            if (config.WantsImportance) json.Text(Features.ImportanceMap);
            json.End(']').End('}');
            if (start.ResumeSessionId != null) json.Name("resume_session_id").Text(start.ResumeSessionId);
            message.Text(json.End('}').ToString());
        }

        /// <summary>Write a `heartbeat`.</summary>
        public static void EncodeHeartbeat(Heartbeat heartbeat, MessageBuffer message)
        {
            message.Text(Typed("heartbeat").Name("timestamp").Number(heartbeat.TimestampSecs).End('}').ToString());
        }

        private static JsonWriter Typed(string type)
        {
            return new JsonWriter().Begin('{').Name("type").Text(type);
        }

        private static void Resolution(int width, int height, JsonWriter json)
        {
            json.Name("resolution").Begin('[').Integer(width).Integer(height).End(']');
        }
    }

    /// <summary>What a client may offer in `client.features`.</summary>
    internal static class Features
    {
        public const string Footprint = "footprint";
        public const string ImportanceMap = "importance_map";
    }
}
