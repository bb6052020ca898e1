using System;

namespace Sgaps.Client
{
    // The life of the connection; what a game calls is in NetworkClient.cs.
    public sealed partial class NetworkClient
    {
        private void Connect()
        {
            CloseTransport();
            _hasAck = false;
            _transport = _newTransport();
            _polledAtSecs = _nowSecs();
            _deadlineSecs = _nowSecs() + StartTimeoutSecs;
            State = ConnectionState.Connecting;
            _transport.Connect(new Uri(_config.Endpoint), _config.Subprotocols);
        }

        private void FinishConnecting()
        {
            if (_transport.State == TransportState.Connecting && _nowSecs() < _deadlineSecs) return;
            // Where it is over by now, Receive still reads what came before the end: that may say why.
            State = ConnectionState.Starting;
            if (_transport.State == TransportState.Open) SendStart();
        }

        private void SendStart()
        {
            _codec = _transport.Subprotocol == ProtocolLimits.BinarySubprotocol ? (IMessageCodec)new BinaryCodec() : new JsonCodec();
            var start = new SessionStart { Config = _config, OffersFootprint = !_config.OwnPattern.HasValue, ResumeSessionId = _resumeSessionId };
            JsonCodec.EncodeStart(start, _outgoing);
            SendOutgoing();
        }

        private void Receive()
        {
            var transport = _transport;
            // Asked before the last messages are read: a refusal may lie just before the close.
            var isOver = LooksOver();
            for (var i = 0; i < MaxMessagesAPoll; i++)
            {
                TransportMessage message;
                if (!transport.TryReceive(out message))
                {
                    if (isOver) LostTransport();
                    return;
                }
                TakeRaw(message);
                // It was the last of its connection, or a handler ended that.
                if (_transport != transport) return;
            }
        }

        private void TakeRaw(TransportMessage message)
        {
            // While streaming, the deadline is the end of a silence that is too long.
            if (State == ConnectionState.Streaming) _deadlineSecs = _nowSecs() + SilenceTimeoutSecs;
            Session.BytesDown += message.Count;
            Take(ServerMessages.Decode(message.Bytes, message.Count, message.IsText));
        }

        // Handlers of events may stop the client: each message is taken in whole before it is told.
        private void Take(object message)
        {
            if (_hasAck) TakeInSession(message);
            else if (message is ErrorMessage) TakeRefusedStart((ErrorMessage)message);
            else TakeAck(message as SessionStartAck);
        }

        private void TakeAck(SessionStartAck ack)
        {
            if (ack == null) throw ProtocolException.BadMessage("the first answer is no session_start_ack");
            if (_resumeSessionId == null && ack.Resumed) throw ProtocolException.BadMessage("a session is resumed unasked");
            Session.TakeAck(ack);
            _resumeSessionId = ack.SessionId;
            _hasAck = true;
            if (SessionStarted != null) SessionStarted(ack);
        }

        private void TakeInSession(object message)
        {
            var heartbeat = message as HeartbeatAck;
            if (heartbeat != null) Session.TakeHeartbeat(heartbeat, _nowSecs());
            else if (message is UVCoordinates) TakeCoordinates((UVCoordinates)message);
            else if (message is ErrorMessage) TakeError((ErrorMessage)message);
            else if (message is SessionStartAck) throw ProtocolException.BadMessage("a second session_start_ack");
        }

        private void TakeCoordinates(UVCoordinates coordinates)
        {
            Session.TakeCoordinates(coordinates);
            if (State == ConnectionState.Starting) BeginStreaming();
            if (CoordinatesReceived != null) CoordinatesReceived(coordinates);
        }

        private void BeginStreaming()
        {
            State = ConnectionState.Streaming;
            _steadyAtSecs = _nowSecs() + SteadySecs;
            _nextHeartbeatSecs = _nowSecs();
            _deadlineSecs = _nowSecs() + SilenceTimeoutSecs;
        }

        private void TakeError(ErrorMessage error)
        {
            Session.TakeError(error, _nowSecs());
            if (error.IsFatal) TakeRefusal(error);
            else if (MessageRefused != null) MessageRefused(error);
        }

        private void TakeRefusedStart(ErrorMessage error)
        {
            if (error.Code != ErrorCodes.SessionNotFound || _resumeSessionId == null)
            {
                TakeRefusal(error);
                return;
            }
            // The refusal of a first message ends its connection: come back without the old id.
            _resumeSessionId = null;
            Session.Account.BookGone();
            Lose("the session is gone, starting a new one", 0);
        }

        private void Beat()
        {
            if (_transport.State != TransportState.Open || _nowSecs() < _nextHeartbeatSecs) return;
            _nextHeartbeatSecs = _nowSecs() + HeartbeatSecs;
            var heartbeat = new Heartbeat { TimestampSecs = UnixTimeSecs() };
            Session.Account.BookHeartbeatSent(heartbeat.TimestampSecs, _nowSecs());
            JsonCodec.EncodeHeartbeat(heartbeat, _outgoing);
            SendOutgoing();
        }

        // While nobody polls, as in a game in the background, the server is asked nothing: between two polls its silence
        // grows by the time between two heartbeats at most.
        private void LeaveOutAbsence()
        {
            var absentSecs = Math.Max(0, _nowSecs() - _polledAtSecs - HeartbeatSecs);
            if (State != ConnectionState.Waiting) _deadlineSecs += absentSecs;
            _polledAtSecs = _nowSecs();
        }

        private bool LooksOver()
        {
            return _transport.State == TransportState.Closed || _nowSecs() >= _deadlineSecs;
        }

        // What was read meanwhile may have moved the deadline.
        private void LostTransport()
        {
            if (!LooksOver()) return;
            var isClosed = _transport.State == TransportState.Closed;
            Lose(isClosed ? _transport.CloseReason : "the server says nothing", 0);
        }

        private void Lose(string reason, double askedPauseSecs)
        {
            CloseTransport();
            LastLoss = reason;
            if (State == ConnectionState.Streaming && _nowSecs() >= _steadyAtSecs) _backoff.Reset();
            // Not the longer of both: who was told the same pause must not come back as one.
            WaitUntil(_nowSecs() + askedPauseSecs + _backoff.NextSecs());
            if (askedPauseSecs > 0) _notBeforeSecs = _deadlineSecs;
            if (ConnectionLost != null) ConnectionLost(reason);
        }

        private void WaitUntil(double deadlineSecs)
        {
            _deadlineSecs = deadlineSecs;
            State = ConnectionState.Waiting;
        }

        private void TakeRefusal(ErrorMessage error)
        {
            var refusal = error.AsException();
            if (ErrorCodes.IsWorthRetrying(error.Code)) Lose(refusal.Message, error.RetryAfterSecs ?? 0);
            else GiveUp(refusal);
        }

        private void GiveUp(ProtocolException refusal)
        {
            CloseTransport();
            Refusal = refusal;
            State = ConnectionState.Refused;
            if (SessionRefused != null) SessionRefused(refusal);
        }

        private void CloseTransport()
        {
            if (_transport != null) _transport.Dispose();
            _transport = null;
            Session.Sets.Clear();
        }
    }
}
