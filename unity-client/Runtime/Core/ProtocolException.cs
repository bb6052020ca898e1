using System;

namespace Sgaps.Client
{
    /// <summary>A message that breaks the protocol, or the server's refusal of one of ours.</summary>
    public sealed class ProtocolException : Exception
    {
        /// <summary>A refusal by its code in <see cref="ErrorCodes"/>.</summary>
        public ProtocolException(string code, string reason, double? retryAfterSecs = null)
            : base(code + ": " + reason)
        {
            Code = code;
            RetryAfterSecs = retryAfterSecs;
        }

        private ProtocolException(ProtocolException unread)
            : base("the server's message cannot be read (" + unread.Message + "): are package and server of the same version?", unread)
        {
            Code = unread.Code;
        }

        /// <summary>One of <see cref="ErrorCodes"/>, or a newer one of the server's.</summary>
        public string Code { get; private set; }

        /// <summary>Seconds the server asks to wait before the next try; null where it does not say.</summary>
        public double? RetryAfterSecs { get; private set; }

        // The server said nothing of this: it was found here.
        internal static ProtocolException Unreadable(ProtocolException error)
        {
            return new ProtocolException(error);
        }

        internal static ProtocolException BadMessage(string reason)
        {
            return new ProtocolException(ErrorCodes.BadMessage, reason);
        }
    }
}
