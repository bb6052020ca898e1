using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Net.WebSockets;
using System.Threading;
using System.Threading.Tasks;

namespace Sgaps.Client
{
    /// <summary>
    /// The transport of every platform with sockets: .NET's own WebSocket on two background tasks, one that reads and one
    /// that writes; queues lie between them and the thread that polls.
    /// </summary>
    public sealed class ClientWebSocketTransport : IWebSocketTransport
    {
        private const int LastMessagesMs = 1000;
        private const int MaxIncomingBytes = 2 * ProtocolLimits.MaxMessageBytes;

        private readonly ClientWebSocket _socket = new ClientWebSocket();
        private readonly CancellationTokenSource _stop = new CancellationTokenSource();
        private readonly MessagePool _pool = new MessagePool();
        private readonly ConcurrentQueue<PooledMessage> _incoming = new ConcurrentQueue<PooledMessage>();
        private readonly ConcurrentQueue<PooledMessage> _outgoing = new ConcurrentQueue<PooledMessage>();
        private readonly SemaphoreSlim _hasOutgoing = new SemaphoreSlim(0);
        private PooledMessage _lent;
        private string _server;
        private Task _connecting = Task.CompletedTask;
        private int _backlogBytes;
        private int _incomingBytes;
        private volatile string _closeReason;
        private volatile int _state = (int)TransportState.Connecting;

        /// <inheritdoc/>
        public TransportState State
        {
            get { return (TransportState)_state; }
        }

        /// <inheritdoc/>
        public string Subprotocol
        {
            get { return _socket.SubProtocol; }
        }

        /// <inheritdoc/>
        public string CloseReason
        {
            get { return _closeReason; }
        }

        /// <inheritdoc/>
        public int BacklogBytes
        {
            get { return Volatile.Read(ref _backlogBytes); }
        }

        /// <inheritdoc/>
        public void Connect(Uri endpoint, IList<string> subprotocols)
        {
            foreach (var name in subprotocols) _socket.Options.AddSubProtocol(name);
            _stop.Token.Register(Abort);
            _server = endpoint.Authority;
            _connecting = Task.Run(() => ConnectAsync(endpoint));
            Task.Run(RunAsync);
        }

        /// <inheritdoc/>
        public void Send(MessageBuffer message)
        {
            var queued = _pool.Take();
            queued.Reserve(message.Count);
            Buffer.BlockCopy(message.Bytes, 0, queued.Bytes, 0, message.Count);
            queued.Count = message.Count;
            queued.IsText = message.IsText;
            Interlocked.Add(ref _backlogBytes, message.Count);
            _outgoing.Enqueue(queued);
            _hasOutgoing.Release();
        }

        /// <inheritdoc/>
        public bool TryReceive(out TransportMessage message)
        {
            if (_lent != null) _pool.Give(_lent);
            message = new TransportMessage();
            if (!_incoming.TryDequeue(out _lent)) return false;
            Interlocked.Add(ref _incomingBytes, -_lent.Bytes.Length);
            message = new TransportMessage { Bytes = _lent.Bytes, Count = _lent.Count, IsText = _lent.IsText };
            return true;
        }

        /// <summary>
        /// End the connection without waiting for the other side: a session outlives its connections. What was queued is
        /// still sent, in the background and for a second at most.
        /// </summary>
        public void Dispose()
        {
            if (!_connecting.IsCompleted) HangingAttempts.Add(_connecting, _server);
            _hasOutgoing.Release(); // of no message: the end of the queue
            if (State == TransportState.Open) _stop.CancelAfter(LastMessagesMs);
            else _stop.Cancel();
        }

        private void Abort()
        {
            _socket.Abort();
            _socket.Dispose();
        }

        private async Task ConnectAsync(Uri endpoint)
        {
            HangingAttempts.RequireFew(_server);
            await _socket.ConnectAsync(endpoint, _stop.Token).ConfigureAwait(false);
        }

        private async Task RunAsync()
        {
            try
            {
                await _connecting.ConfigureAwait(false);
                _state = (int)TransportState.Open;
                var writing = WriteAsync();
                var reading = ReadAsync();
                await (await Task.WhenAny(reading, writing).ConfigureAwait(false)).ConfigureAwait(false);
                _closeReason = "the server closed the connection: " + (int)_socket.CloseStatus.GetValueOrDefault() + " " + _socket.CloseStatusDescription;
            }
            catch (Exception error)
            {
                _closeReason = IsEndOfConnection(error) ? error.GetBaseException().Message : error.ToString();
            }
            finally
            {
                _state = (int)TransportState.Closed;
                _stop.Cancel();
            }
        }

        private async Task ReadAsync()
        {
            while (true)
            {
                var message = _pool.Take();
                if (!await ReadMessageAsync(message).ConfigureAwait(false)) return;
                Queue(message);
            }
        }

        // Counted by its memory: a thousand short messages take more than they say.
        private void Queue(PooledMessage message)
        {
            var waitingBytes = Interlocked.Add(ref _incomingBytes, message.Bytes.Length);
            if (waitingBytes > MaxIncomingBytes) throw new IOException("the server sends more than the game reads: more than " + MaxIncomingBytes + " bytes wait");
            _incoming.Enqueue(message);
        }

        // Whether a whole message came, and not the end.
        private async Task<bool> ReadMessageAsync(PooledMessage message)
        {
            WebSocketReceiveResult part;
            do
            {
                if (message.Count == message.Bytes.Length) message.Reserve(message.Count + 1);
                var free = new ArraySegment<byte>(message.Bytes, message.Count, message.Bytes.Length - message.Count);
                part = await _socket.ReceiveAsync(free, _stop.Token).ConfigureAwait(false);
                message.Count += part.Count;
                if (message.Count > ProtocolLimits.MaxMessageBytes) throw new IOException("the server sent a message of more than " + ProtocolLimits.MaxMessageBytes + " bytes");
            }
            while (!part.EndOfMessage && part.MessageType != WebSocketMessageType.Close);
            message.IsText = part.MessageType == WebSocketMessageType.Text;
            return part.MessageType != WebSocketMessageType.Close;
        }

        private async Task WriteAsync()
        {
            while (true)
            {
                PooledMessage message;
                await _hasOutgoing.WaitAsync(_stop.Token).ConfigureAwait(false);
                if (!_outgoing.TryDequeue(out message)) return;
                var type = message.IsText ? WebSocketMessageType.Text : WebSocketMessageType.Binary;
                await _socket.SendAsync(new ArraySegment<byte>(message.Bytes, 0, message.Count), type, true, _stop.Token).ConfigureAwait(false);
                Interlocked.Add(ref _backlogBytes, -message.Count);
                _pool.Give(message);
            }
        }

        // Of anything else the whole trace is told: it is a fault of this program.
        private static bool IsEndOfConnection(Exception error)
        {
            return error is WebSocketException || error is OperationCanceledException || error is IOException
                || error is ObjectDisposedException || error is System.Net.Sockets.SocketException || error is System.Net.WebException;
        }
    }
}
