using System;

namespace Sgaps.Client
{
    /// <summary>Rolling averages of what streaming costs and how fast the loop is. Allocates nothing after its construction.</summary>
    public sealed class PerformanceMonitor
    {
        private const int Window = 60;
        private const int FramesAwaited = 128;

        private readonly RollingAverage _periodSecs = new RollingAverage(Window);
        private readonly RollingAverage _captureMs = new RollingAverage(Window);
        private readonly RollingAverage _latencyMs = new RollingAverage(Window);
        private readonly long[] _sentIds = new long[FramesAwaited];
        private readonly double[] _sentAtSecs = new double[FramesAwaited];
        private double _lastSentAtSecs = double.NaN;

        /// <summary>An empty monitor.</summary>
        public PerformanceMonitor()
        {
            Reset();
        }

        /// <summary>Frames sent a second; 0 before the second frame.</summary>
        public double FramesPerSec
        {
            get { return _periodSecs.Mean > 0 ? 1 / _periodSecs.Mean : 0; }
        }

        /// <summary>Milliseconds of the main thread that a captured frame costs.</summary>
        public double CaptureMs
        {
            get { return _captureMs.Mean; }
        }

        /// <summary>Milliseconds from sending a frame to the coordinates computed from it.</summary>
        public double LatencyMs
        {
            get { return _latencyMs.Mean; }
        }

        /// <summary>Begin anew, with a new session.</summary>
        public void Reset()
        {
            _periodSecs.Clear();
            _captureMs.Clear();
            _latencyMs.Clear();
            _lastSentAtSecs = double.NaN;
            for (var i = 0; i < FramesAwaited; i++) _sentIds[i] = -1;
        }

        /// <summary>A frame was captured in so many milliseconds.</summary>
        public void BookCapture(double milliseconds)
        {
            _captureMs.Add(milliseconds);
        }

        /// <summary>A frame was sent at this time of a monotonic clock.</summary>
        public void BookSent(long frameId, double nowSecs)
        {
            if (!double.IsNaN(_lastSentAtSecs)) _periodSecs.Add(nowSecs - _lastSentAtSecs);
            _lastSentAtSecs = nowSecs;
            _sentIds[frameId % FramesAwaited] = frameId;
            _sentAtSecs[frameId % FramesAwaited] = nowSecs;
        }

        /// <summary>Coordinates came that were computed from this frame; -1 answers none.</summary>
        public void BookAnswer(long frameId, double nowSecs)
        {
            var slot = Math.Max(0, frameId) % FramesAwaited;
            if (frameId >= 0 && _sentIds[slot] == frameId) _latencyMs.Add((nowSecs - _sentAtSecs[slot]) * 1000);
        }
    }

    /// <summary>The mean of the newest values.</summary>
    internal sealed class RollingAverage
    {
        private readonly double[] _values;
        private int _next;
        private int _count;

        public RollingAverage(int window)
        {
            _values = new double[window];
        }

        /// <summary>0 without values. Summed anew, so that no rounding error grows over hours.</summary>
        public double Mean
        {
            get
            {
                double sum = 0;
                for (var i = 0; i < _count; i++) sum += _values[i];
                return _count > 0 ? sum / _count : 0;
            }
        }

        public void Add(double value)
        {
            _values[_next] = value;
            _next = (_next + 1) % _values.Length;
            _count = Math.Min(_count + 1, _values.Length);
        }

        public void Clear()
        {
            _next = _count = 0;
        }
    }
}
