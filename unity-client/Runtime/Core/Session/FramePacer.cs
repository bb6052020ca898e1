using System;

namespace Sgaps.Client
{
    /// <summary>Says when the next frame is due, at the rate that the server wants.</summary>
    public sealed class FramePacer
    {
        private double _nextAtSecs = double.NegativeInfinity;

        /// <summary>
        /// Whether a frame is due now; if so, it is taken for sent. Keeps the mean rate where the game's frames do not
        /// divide it evenly, but does not make up for more than one frame that was missed.
        /// </summary>
        public bool TakeIfDue(double nowSecs, double targetFps)
        {
            if (nowSecs < _nextAtSecs) return false;
            var periodSecs = 1 / targetFps;
            _nextAtSecs = Math.Max(_nextAtSecs + periodSecs, nowSecs);
            return true;
        }
    }
}
