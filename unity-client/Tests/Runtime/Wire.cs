using System;
using System.Text;

namespace Sgaps.Client.Tests
{
    /// <summary>Messages of a server, as it writes them.</summary>
    public static class Wire
    {
        public const string Coordinates =
            "{\"type\":\"uv_coordinates\",\"frame_id\":-1,\"coords\":[[0.25,0.5],[0.75,0.5]],\"importance_map\":null,"
            + "\"coordinate_set_id\":1,\"model_version\":\"telea\",\"predicted_psnr\":null}";

        public static string Ack(bool resumed = false, long lastFrameId = -1, string sessionId = "s-1")
        {
            return "{\"type\":\"session_start_ack\",\"session_id\":\"" + sessionId + "\",\"checkpoint_loaded\":true,\"sample_count\":2,"
                + "\"max_state_dim\":2,\"target_fps\":20.0,\"model_version\":\"v1\",\"coordinate_set_id\":1,\"keyframe_interval\":3,"
                + "\"protocol_version\":1,\"resumed\":" + (resumed ? "true" : "false") + ",\"last_frame_id\":" + lastFrameId + ",\"features\":[\"footprint\"]}";
        }

        public static string Answer(long frameId, long setId)
        {
            return Coordinates.Replace("\"frame_id\":-1", "\"frame_id\":" + frameId).Replace("_set_id\":1", "_set_id\":" + setId);
        }

        public static string HeartbeatAck(string timestamp, long lastRecordedFrameId = -1)
        {
            return "{\"type\":\"heartbeat_ack\",\"timestamp\":" + timestamp + ",\"server_time\":1,\"last_recorded_frame_id\":" + lastRecordedFrameId
                + ",\"target_fps\":5}";
        }

        public static string Error(string code, bool fatal, string retryAfterSecs = "null")
        {
            return "{\"type\":\"error\",\"code\":\"" + code + "\",\"message\":\"m\",\"fatal\":" + (fatal ? "true" : "false")
                + ",\"retry_after_secs\":" + retryAfterSecs + "}";
        }

        public static object Decode(string text)
        {
            var bytes = Encoding.UTF8.GetBytes(text);
            return ServerMessages.Decode(bytes, bytes.Length, true);
        }

        public static UVCoordinates Set(string text = Coordinates)
        {
            return (UVCoordinates)Decode(text);
        }

        public static byte[] Written(Action<MessageBuffer> write)
        {
            var message = new MessageBuffer();
            write(message);
            var bytes = new byte[message.Count];
            Array.Copy(message.Bytes, bytes, message.Count);
            return bytes;
        }
    }
}
