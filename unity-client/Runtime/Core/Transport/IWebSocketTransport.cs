using System;
using System.Collections.Generic;

namespace Sgaps.Client
{
    /// <summary>Where one connection is.</summary>
    public enum TransportState
    {
        /// <summary>Being opened.</summary>
        Connecting,

        /// <summary>Messages go both ways.</summary>
        Open,

        /// <summary>Over, for whatever reason; it does not open again.</summary>
        Closed,
    }

    /// <summary>A message that came in: the first Count bytes are valid until the next TryReceive.</summary>
    public struct TransportMessage
    {
        /// <summary>Memory that the transport uses again.</summary>
        public byte[] Bytes;

        /// <summary>Length of the message in bytes.</summary>
        public int Count;

        /// <summary>Whether it is text, not binary.</summary>
        public bool IsText;
    }

    /// <summary>
    /// One WebSocket connection, polled: no call-back ever comes, so its user needs no locks and no dispatcher. All
    /// members are for one thread.
    /// </summary>
    public interface IWebSocketTransport : IDisposable
    {
        /// <summary>Connecting from the start, until Open or Closed.</summary>
        TransportState State { get; }

        /// <summary>What the server chose of what was offered; null or empty if nothing.</summary>
        string Subprotocol { get; }

        /// <summary>Why it is closed, for people.</summary>
        string CloseReason { get; }

        /// <summary>Bytes that wait to be sent.</summary>
        int BacklogBytes { get; }

        /// <summary>Begin to connect; called once. A failure shows as Closed.</summary>
        void Connect(Uri endpoint, IList<string> subprotocols);

        /// <summary>Queue a copy of the message. On a connection that has closed meanwhile it is lost.</summary>
        void Send(MessageBuffer message);

        /// <summary>The next message, whatever the state: what came in before the close can be read after it.</summary>
        bool TryReceive(out TransportMessage message);
    }
}
