using System;

namespace Sgaps.Client
{
    /// <summary>Rolling averages of what streaming costs and how fast the loop is. Allocates nothing after its construction.</summary>
    public sealed class PerformanceMonitor
    {
        private const int Window = 60;
        private const int FramesKept = 128;
        private const double RateSecs = 10;

        private readonly Func<double> _nowSecs;
        private readonly RollingAverage _captureMs = new RollingAverage(Window);
        private readonly RollingAverage _latencyMs = new RollingAverage(Window);
        private readonly long[] _sentIds = new long[FramesKept];
        private readonly double[] _sentAtSecs = new double[FramesKept];

        /// <summary>An empty monitor; `nowSecs` is a monotonic clock.</summary>
        public PerformanceMonitor(Func<double> nowSecs)
        {
            _nowSecs = nowSecs;
            Reset();
        }

        /// <summary>Frames sent a second, of the newest 128 and the last ten seconds; 0 before the second of them.</summary>
        public double FramesPerSec
        {
            get
            {
                var nowSecs = _nowSecs();
                var oldestSecs = nowSecs;
                var periods = -1;
                foreach (var sentAtSecs in _sentAtSecs)
                {
                    if (sentAtSecs <= nowSecs - RateSecs) continue;
                    oldestSecs = Math.Min(oldestSecs, sentAtSecs);
                    periods++;
                }
                return oldestSecs < nowSecs ? periods / (nowSecs - oldestSecs) : 0;
            }
        }

        /// <summary>Milliseconds of the main thread to capture a frame, without reading its coordinates, encoding and sending it.</summary>
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
            _captureMs.Clear();
            _latencyMs.Clear();
            for (var i = 0; i < FramesKept; i++)
            {
                _sentIds[i] = -1;
                _sentAtSecs[i] = double.NegativeInfinity;
            }
        }

        /// <summary>A frame was captured in so many milliseconds.</summary>
        public void BookCapture(double milliseconds)
        {
            _captureMs.Add(milliseconds);
        }

        /// <summary>A frame was sent, now.</summary>
        public void BookSent(long frameId)
        {
            _sentIds[frameId % FramesKept] = frameId;
            _sentAtSecs[frameId % FramesKept] = _nowSecs();
        }

        /// <summary>Coordinates came, now, that were computed from this frame; -1 answers none.</summary>
        public void BookAnswer(long frameId)
        {
            var slot = Math.Max(0, frameId) % FramesKept;
            if (frameId >= 0 && _sentIds[slot] == frameId) _latencyMs.Add((_nowSecs() - _sentAtSecs[slot]) * 1000);
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
