#if UNITY_WEBGL
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace Sgaps.Client
{
    /// <summary>The transport of browsers, which have no sockets but their own: Plugins/WebGL/SgapsWebSocket.jslib.</summary>
    public sealed class WebGLTransport : IWebSocketTransport
    {
        private byte[] _received = new byte[4096];
        private int _socket;

        /// <inheritdoc/>
        public TransportState State
        {
            get { return (TransportState)SgapsSocketState(_socket); }
        }

        /// <inheritdoc/>
        public string Subprotocol
        {
            get { return SgapsSocketProtocol(_socket); }
        }

        /// <inheritdoc/>
        public string CloseReason
        {
            get { return SgapsSocketCloseReason(_socket); }
        }

        /// <inheritdoc/>
        public int BacklogBytes
        {
            get { return SgapsSocketBacklog(_socket); }
        }

        /// <inheritdoc/>
        public void Connect(Uri endpoint, IList<string> subprotocols)
        {
            _socket = SgapsSocketOpen(endpoint.AbsoluteUri, string.Join(",", subprotocols));
        }

        /// <inheritdoc/>
        public void Send(MessageBuffer message)
        {
            SgapsSocketSend(_socket, message.Bytes, message.Count, message.IsText ? 1 : 0);
        }

        /// <inheritdoc/>
        public bool TryReceive(out TransportMessage message)
        {
            message = new TransportMessage();
            var count = SgapsSocketNextBytes(_socket);
            if (count < 0) return false;
            if (count > _received.Length) _received = new byte[count];
            var isText = SgapsSocketTake(_socket, _received) == 1;
            message = new TransportMessage { Bytes = _received, Count = count, IsText = isText };
            return true;
        }

        /// <inheritdoc/>
        public void Dispose()
        {
            SgapsSocketClose(_socket);
        }

        [DllImport("__Internal")]
        private static extern int SgapsSocketOpen(string endpoint, string subprotocols);

        [DllImport("__Internal")]
        private static extern int SgapsSocketState(int socket);

        [DllImport("__Internal")]
        private static extern string SgapsSocketProtocol(int socket);

        [DllImport("__Internal")]
        private static extern string SgapsSocketCloseReason(int socket);

        [DllImport("__Internal")]
        private static extern int SgapsSocketBacklog(int socket);

        [DllImport("__Internal")]
        private static extern void SgapsSocketSend(int socket, byte[] bytes, int count, int isText);

        [DllImport("__Internal")]
        private static extern int SgapsSocketNextBytes(int socket);

        [DllImport("__Internal")]
        private static extern int SgapsSocketTake(int socket, byte[] target);

        [DllImport("__Internal")]
        private static extern void SgapsSocketClose(int socket);
    }
}
#endif
