using System.Collections.Generic;

namespace Sgaps.Client
{
    /// <summary>The `code` of an `error` message. The names are part of the protocol.</summary>
    public static class ErrorCodes
    {
        /// <summary>Not JSON, or JSON that holds what the protocol forbids.</summary>
        public const string BadJson = "bad_json";

        /// <summary>A field is missing, of the wrong type or out of range.</summary>
        public const string BadMessage = "bad_message";

        /// <summary>No message has this type.</summary>
        public const string UnknownType = "unknown_type";

        /// <summary>The session to resume is gone; a new one has to be started.</summary>
        public const string SessionNotFound = "session_not_found";

        /// <summary>The broker cannot store frames now.</summary>
        public const string Overloaded = "overloaded";

        /// <summary>The gateway stops; the session can be resumed in a moment.</summary>
        public const string ShuttingDown = "shutting_down";

        /// <summary>The frame names a coordinate set that the gateway no longer knows.</summary>
        public const string UnknownSet = "unknown_set";

        // Fatal codes that coming back does not cure. What is not listed may be newer than this client
        // and is tried again, as the Python client does.
        private static readonly HashSet<string> Permanent = new HashSet<string>
        {
            BadJson, BadMessage, UnknownType, "message_too_large", "no_session", "session_exists",
            SessionNotFound, "session_mismatch", "session_taken_over", "unauthorized", "origin_refused",
            "frame_id_backwards", "resolution_mismatch", "too_many_samples", "state_too_long",
            "bad_keyframe", UnknownSet, "rate_limited",
        };

        private static readonly HashSet<string> FrameRefusals = new HashSet<string>
        {
            "frame_id_backwards", Overloaded, "rate_limited", "resolution_mismatch", "state_too_long",
            "too_many_samples", UnknownSet,
        };

        /// <summary>Whether the same client may come back after this fatal error.</summary>
        public static bool IsWorthRetrying(string code)
        {
            return !Permanent.Contains(code);
        }

        /// <summary>Whether this refuses a frame. A heartbeat can be refused as overloaded too, and the
        /// message does not say what it refuses: see SessionAccount.BookHeartbeat.</summary>
        public static bool RefusesFrame(string code)
        {
            return FrameRefusals.Contains(code);
        }
    }
}
