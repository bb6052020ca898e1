using System;
using System.Collections.Generic;
using System.Text;

namespace Sgaps.Client.Tests
{
    /// <summary>A connection whose other end is the test.</summary>
    public sealed class FakeTransport : IWebSocketTransport
    {
        private readonly Queue<TransportMessage> _incoming = new Queue<TransportMessage>();

        public readonly List<byte[]> Sent = new List<byte[]>();

        public bool KeepsSent = true;

        public TransportState State { get; set; }

        public string Subprotocol { get; set; }

        public string CloseReason { get; set; }

        public int BacklogBytes { get; set; }

        public bool IsDisposed { get; private set; }

        public IList<string> Offered { get; private set; }

        public void Connect(Uri endpoint, IList<string> subprotocols)
        {
            Offered = subprotocols;
        }

        public void Send(MessageBuffer message)
        {
            if (!KeepsSent) return;
            var copy = new byte[message.Count];
            Array.Copy(message.Bytes, copy, message.Count);
            Sent.Add(copy);
        }

        public bool TryReceive(out TransportMessage message)
        {
            message = _incoming.Count > 0 ? _incoming.Dequeue() : new TransportMessage();
            return message.Bytes != null;
        }

        public void Dispose()
        {
            IsDisposed = true;
        }

        public void Says(string text)
        {
            var bytes = Encoding.UTF8.GetBytes(text);
            _incoming.Enqueue(new TransportMessage { Bytes = bytes, Count = bytes.Length, IsText = true });
        }

        public void Says(byte[] bytes)
        {
            _incoming.Enqueue(new TransportMessage { Bytes = bytes, Count = bytes.Length });
        }

        public void Breaks(string reason)
        {
            CloseReason = reason;
            State = TransportState.Closed;
        }

        public string SentText(int index)
        {
            return Encoding.UTF8.GetString(Sent[index]);
        }
    }
}
