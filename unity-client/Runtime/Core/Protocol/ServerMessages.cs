using System;
using System.Collections.Generic;
using Sgaps.Client.Json;

namespace Sgaps.Client
{
    /// <summary>Reads what the server sends; everything is checked here once. Unknown fields and kinds of messages are ignored: the server may grow.</summary>
    public static class ServerMessages
    {
        private const double MinFps = 1e-3;
        private const double MaxFps = 10000;

        /// <summary>
        /// A SessionStartAck, UVCoordinates, HeartbeatAck or ErrorMessage; null of a kind that is none of these. Throws ProtocolException.
        /// </summary>
        public static object Decode(byte[] bytes, int count, bool isText)
        {
            if (!isText) return BinaryCodec.DecodeCoordinates(bytes, count);
            var json = JsonFields.Of(JsonReader.Read(MessageParser.DecodedText(bytes, 0, count)), "message");
            switch (json.Text("type"))
            {
                case "session_start_ack": return StartAck(json);
                case "uv_coordinates": return Coordinates(json);
                case "heartbeat_ack": return HeartbeatAck(json);
                case "error": return Error(json);
                default: return null;
            }
        }

        private static SessionStartAck StartAck(JsonFields json)
        {
            return new SessionStartAck
            {
                SessionId = SessionId(json),
                CheckpointLoaded = json.Flag("checkpoint_loaded"),
                SampleCount = (int)json.Integer("sample_count", 0, ushort.MaxValue),
                MaxStateDim = (int)json.Integer("max_state_dim", 0, ProtocolLimits.MaxStateDim),
                TargetFps = TargetFps(json),
                ModelVersion = json.Text("model_version"),
                KeyframeInterval = (int)json.Integer("keyframe_interval", 0, int.MaxValue),
                Resumed = json.Flag("resumed"),
                LastFrameId = json.Integer("last_frame_id", -1, ProtocolLimits.MaxFrameId, -1),
                Features = json.Texts("features"),
            };
        }

        // It goes into addresses of the HTTP API.
        private static string SessionId(JsonFields json)
        {
            var sessionId = json.Text("session_id");
            if (!SessionConfig.IsIdentifier(sessionId)) throw ProtocolException.BadMessage("session_id: no identifier");
            return sessionId;
        }

        private static double TargetFps(JsonFields json)
        {
            var fps = json.Number("target_fps");
            if (fps < MinFps || fps > MaxFps) throw ProtocolException.BadMessage("target_fps: outside " + MinFps + ".." + MaxFps);
            return fps;
        }

        private static UVCoordinates Coordinates(JsonFields json)
        {
            var rows = json.Items("coords");
            if (rows.Count > ushort.MaxValue) throw ProtocolException.BadMessage("coords: too many");
            var coords = new UVCoordinate[rows.Count];
            var hasFootprints = false;
            for (var i = 0; i < coords.Length; i++)
            {
                var row = rows[i] as List<object>;
                if (row == null || row.Count < 2 || row.Count > 3) throw ProtocolException.BadMessage("coords: not [u, v] or [u, v, side]");
                hasFootprints |= row.Count == 3;
                coords[i] = new UVCoordinate(Unit(row[0]), Unit(row[1]), row.Count == 3 ? Side(row[2]) : 1);
            }
            return new UVCoordinates(coords, hasFootprints)
            {
                FrameId = json.Integer("frame_id", -1, ProtocolLimits.MaxFrameId),
                SetId = json.Integer("coordinate_set_id", 0, ProtocolLimits.MaxSetId),
                Importance = Importance(json.OptionalObject("importance_map")),
                ModelVersion = json.Text("model_version"),
                PredictedPsnrDb = json.OptionalNumber("predicted_psnr"),
            };
        }

        private static float Unit(object value)
        {
            if (value is double && (double)value >= 0 && (double)value <= 1) return (float)(double)value;
            throw ProtocolException.BadMessage("coords: u or v is not a number of 0..1");
        }

        private static int Side(object value)
        {
            if (value is double && ProtocolLimits.IsFootprint((double)value)) return (int)(double)value;
            throw ProtocolException.BadMessage("coords: no such footprint");
        }

        private static ImportanceMap Importance(JsonFields json)
        {
            if (json == null) return null;
            var width = (int)json.Integer("width", 1, ProtocolLimits.MaxSidePx);
            var height = (int)json.Integer("height", 1, ProtocolLimits.MaxSidePx);
            var values = Base64(json.Text("data"));
            if (values.Length != (long)width * height) throw ProtocolException.BadMessage("importance_map: " + values.Length + " bytes for " + width + "x" + height);
            return new ImportanceMap(width, height, values);
        }

        private static byte[] Base64(string data)
        {
            try
            {
                return Convert.FromBase64String(data);
            }
            catch (FormatException error)
            {
                throw ProtocolException.BadMessage("importance_map.data: " + error.Message);
            }
        }

        private static HeartbeatAck HeartbeatAck(JsonFields json)
        {
            return new HeartbeatAck
            {
                TimestampSecs = json.Number("timestamp"),
                ServerTimeSecs = json.Number("server_time"),
                LastRecordedFrameId = json.Integer("last_recorded_frame_id", -1, ProtocolLimits.MaxFrameId),
                TargetFps = TargetFps(json),
            };
        }

        private static ErrorMessage Error(JsonFields json)
        {
            var retryAfterSecs = json.OptionalNumber("retry_after_secs");
            if (retryAfterSecs < 0) throw ProtocolException.BadMessage("retry_after_secs: less than 0");
            return new ErrorMessage
            {
                Code = json.Text("code"),
                Message = json.Text("message"),
                IsFatal = json.Flag("fatal", false),
                RetryAfterSecs = retryAfterSecs,
            };
        }
    }
}
