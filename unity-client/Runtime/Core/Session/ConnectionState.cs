namespace Sgaps.Client
{
    /// <summary>Where a client is in the life of its connection.</summary>
    public enum ConnectionState
    {
        /// <summary>Not started, or stopped.</summary>
        Stopped,

        /// <summary>The socket is being opened.</summary>
        Connecting,

        /// <summary>`session_start` is sent; acknowledgement and first coordinates are awaited.</summary>
        Starting,

        /// <summary>Frames can be sent.</summary>
        Streaming,

        /// <summary>The connection is lost; the next try comes after a pause.</summary>
        Waiting,

        /// <summary>The server refused for good, or says what cannot be read; see <see cref="NetworkClient.Refusal"/>.</summary>
        Refused,
    }

    /// <summary>What became of a frame that was handed to <see cref="NetworkClient.TrySend"/>.</summary>
    public enum SendResult
    {
        /// <summary>It is on its way.</summary>
        Sent,

        /// <summary>There is no session now.</summary>
        NotConnected,

        /// <summary>The server asked for a pause.</summary>
        Paused,

        /// <summary>Its coordinates are of an earlier connection, or too old: the server no longer knows them.</summary>
        StaleCoordinates,

        /// <summary>The network is slower than the game: too much waits to be sent.</summary>
        Backlogged,
    }
}
