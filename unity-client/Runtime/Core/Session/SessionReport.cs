using System.Globalization;
using System.Text;

namespace Sgaps.Client
{
    /// <summary>How a session goes, in lines for people: what the debug panel and the inspector show.</summary>
    public static class SessionReport
    {
        private const string NoKeyframes =
            "the server asks for no keyframes: the picture is above its server.max_keyframe_pixels, or its server.keyframe_interval is 0";

        /// <summary>
        /// Lines about the connection, the rates, the bytes, the frames and the model. `client` may be null; `capture` says
        /// how frames are captured.
        /// </summary>
        public static string Of(NetworkClient client, PerformanceMonitor performance, string capture)
        {
            if (client == null) return "not connected";
            var text = new StringBuilder();
            Connection(client, text);
            if (client.Session.Account == null) return text.ToString();
            Rates(client.Session, performance, text);
            Line(text, "capture {0:0.00} ms, {1}", performance.CaptureMs, capture);
            Frames(client.Session, text);
            Server(client.Session, text);
            return text.ToString();
        }

        /// <summary>The model that serves, and what is missing where it is no trained checkpoint.</summary>
        public static string Model(SessionStatus session)
        {
            if (session.CheckpointLoaded) return "model " + session.ModelVersion;
            var isNone = session.ModelVersion == SessionStatus.NoReconstructor;
            return "model " + session.ModelVersion + (isNone ? " (no reconstructor runs)" : " (no trained checkpoint serves)");
        }

        private static void Connection(NetworkClient client, StringBuilder text)
        {
            Line(text, "{0}  {1}", client.State, client.Subprotocol ?? "");
            Line(text, "{0}", client.Config.Endpoint);
            if (client.Refusal != null) Line(text, "{0}", client.Refusal.Message);
            if (client.State == ConnectionState.Waiting) Line(text, "{0}; again in {1:0.0} s", client.LastLoss, client.NextTryInSecs);
            if (client.State == ConnectionState.Streaming && client.PauseSecs > 0) Line(text, "paused for {0:0.0} s, as the server asks", client.PauseSecs);
            if (client.Session.Account != null)
            {
                Line(text, "session {0}, resumed {1} times", client.Session.Account.SessionId, client.Session.Account.Resumed);
            }
        }

        private static void Rates(SessionStatus session, PerformanceMonitor performance, StringBuilder text)
        {
            Line(text, "{0:0.0} frames/s of {1:0.0} wanted, latency {2:0} ms", performance.FramesPerSec, session.TargetFps, performance.LatencyMs);
            Line(text, "{0:0.0} kB up, {1:0.0} kB down", session.BytesUp / 1000.0, session.BytesDown / 1000.0);
        }

        private static void Frames(SessionStatus session, StringBuilder text)
        {
            var account = session.Account;
            Line(text, "{0} sent, {1} answered, {2} refused, {3} lost", account.Sent, account.Answered, account.Refused, account.Lost);
            Line(text, "{0} dropped here, recorded up to frame {1}", session.FramesDropped, account.LastRecordedFrameId);
            if (session.LastRefusal != null) Line(text, "last refusal: {0}", session.LastRefusal);
        }

        private static void Server(SessionStatus session, StringBuilder text)
        {
            var psnr = session.PredictedPsnrDb.HasValue ? session.PredictedPsnrDb.Value.ToString("0.0", CultureInfo.InvariantCulture) : "?";
            Line(text, "{0}, predicted PSNR {1} dB", Model(session), psnr);
            if (session.KeyframeInterval == 0) Line(text, NoKeyframes);
        }

        private static void Line(StringBuilder text, string format, params object[] values)
        {
            text.AppendFormat(CultureInfo.InvariantCulture, format, values).Append('\n');
        }
    }
}
