using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Threading;

namespace Sgaps.Client.Harness
{
    /// <summary>What SGAPSManager does in a game, on a picture that moves: sample where the server asks, at its rate.</summary>
    internal sealed class Play : IDisposable
    {
        private const int Width = 160;
        private const int Height = 120;
        private const double LastAnswersSecs = 15;
        private const double PatienceSecs = 100;

        private readonly Stopwatch _clock = Stopwatch.StartNew();
        private readonly NetworkClient _client;
        private readonly FramePacer _pacer = new FramePacer();
        private readonly PerformanceMonitor _monitor;
        private readonly StateVectorCollector _collector = new StateVectorCollector();
        private readonly PixelData _pixels = new PixelData();
        private readonly byte[] _luma = new byte[Width * Height];
        private readonly Random _random = new Random();
        private readonly int _frames;
        private readonly List<string> _lost = new List<string>();
        private readonly HashSet<string> _forms = new HashSet<string>();
        private float[] _state = new float[0];
        private int _keyframes;
        private long _garbageBytes;
        private double _meanSidePx;

        public Play(string url, string key, int frames, SamplingPattern? pattern)
        {
            _frames = frames;
            _monitor = new PerformanceMonitor(Now);
            var config = new SessionConfig { Endpoint = url, CheckpointKey = key, Width = Width, Height = Height, MaxStateDim = 4, OwnPattern = pattern };
            _client = new NetworkClient(config, () => new ClientWebSocketTransport(), Now, _random);
            _client.ConnectionLost += reason => _lost.Add(reason);
            _client.CoordinatesReceived += answer => _monitor.BookAnswer(answer.FrameId);
        }

        /// <summary>Send all frames, wait for the last answer, and sum up in JSON.</summary>
        public string Run()
        {
            _client.Start();
            while ((_client.Session.Account == null || _client.Session.Account.Sent < _frames) && Now() < PatienceSecs) Step();
            var deadlineSecs = Now() + LastAnswersSecs;
            while (!_client.Session.Account.IsComplete && Now() < deadlineSecs) Pause();
            return Summary();
        }

        public void Dispose()
        {
            _client.Dispose();
        }

        private double Now()
        {
            return _clock.Elapsed.TotalSeconds;
        }

        private void Pause()
        {
            _client.Poll();
            if (_client.Refusal != null) throw _client.Refusal;
            Thread.Sleep(4);
        }

        private void Step()
        {
            Pause();
            if (!_client.CanSend || !_pacer.TakeIfDue(Now(), _client.Session.TargetFps)) return;
            var frameId = _client.Session.Account.NextFrameId;
            Paint(frameId);
            _collector.AddValue(frameId);
            _collector.AddMissing();
            var set = Coordinates();
            PixelSampler.Sample(_luma, Width, Height, RowOrder.TopFirst, set, _pixels);
            var keyframe = _client.WantsKeyframe(0) ? GrayPng.Encode(_luma, Width, Height, RowOrder.TopFirst) : null;
            if (!Send(keyframe)) return;
            _monitor.BookSent(frameId);
            if (keyframe != null) _keyframes++;
            _forms.Add(_client.Subprotocol);
            foreach (var coord in set.Coords) _meanSidePx += (double)coord.SidePx / set.Coords.Length / _frames;
        }

        // Counts what this thread allocates for frames without a keyframe, once the first half has grown all buffers.
        private bool Send(byte[] keyframe)
        {
            var allocatedBytes = GC.GetAllocatedBytesForCurrentThread();
            var count = _collector.MoveTo(ref _state);
            var result = _client.TrySend(_pixels, _state, count, NetworkClient.UnixTimeSecs(), keyframe);
            allocatedBytes = GC.GetAllocatedBytesForCurrentThread() - allocatedBytes;
            if (keyframe == null && _client.Session.Account.Sent > _frames / 2) _garbageBytes += allocatedBytes;
            return result == SendResult.Sent;
        }

        private UVCoordinates Coordinates()
        {
            var pattern = _client.Config.OwnPattern;
            if (!pattern.HasValue) return _client.Session.Coordinates;
            var count = _client.Session.SampleCount;
            return UVCoordinates.OwnChoice(SamplingPatterns.Create(pattern.Value, count, Width, Height, _random));
        }

        private void Paint(long frameId)
        {
            for (var y = 0; y < Height; y++)
            {
                for (var x = 0; x < Width; x++) _luma[y * Width + x] = (byte)(128 + 100 * Math.Sin((x + frameId) * 0.1) * Math.Cos(y * 0.07));
            }
        }

        private string Summary()
        {
            var session = _client.Session;
            var account = session.Account;
            return Program.Formatted(
                "{{\"session_id\":\"{0}\",\"sessions\":{1},\"resumed\":{2},\"sent\":{3},\"accepted\":{4},\"answered\":{5},\"lost\":{6},\"refused\":{7},"
                + "\"last_recorded\":{8},\"last_answered\":{9},\"keyframes\":{10},\"forms\":\"{11}\",\"lost_connections\":{12},\"latency_ms\":{13:0.0},"
                + "\"bytes_up\":{14},\"bytes_down\":{15},\"mean_side_px\":{16:0.00},\"model_version\":\"{17}\","
                + "\"garbage_bytes\":{18}}}",
                account.SessionId, session.SessionsStarted, account.Resumed, account.Sent, account.Accepted, account.Answered, account.Lost, account.Refused,
                account.LastRecordedFrameId, account.LastAnsweredFrameId, _keyframes, string.Join(",", _forms), _lost.Count, _monitor.LatencyMs,
                session.BytesUp, session.BytesDown, _meanSidePx, session.ModelVersion,
                _garbageBytes);
        }
    }
}
