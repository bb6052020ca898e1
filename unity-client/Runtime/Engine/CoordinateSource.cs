namespace Sgaps.Client
{
    /// <summary>Who chooses where a frame is sampled.</summary>
    public enum CoordinateSource
    {
        /// <summary>The server, where it is unsure.</summary>
        Server,

        /// <summary>The game: the centre of every cell of a grid.</summary>
        UniformGrid,

        /// <summary>The game: new random pixels for each frame.</summary>
        Random,

        /// <summary>The game: a new random pixel of each cell for each frame.</summary>
        Stratified,

        /// <summary>The game: every other cell of a grid.</summary>
        Checkerboard,
    }

    internal static class CoordinateSources
    {
        /// <summary>What the game samples by; null where the server chooses.</summary>
        public static SamplingPattern? OwnPattern(this CoordinateSource source)
        {
            switch (source)
            {
                case CoordinateSource.UniformGrid: return SamplingPattern.UniformGrid;
                case CoordinateSource.Random: return SamplingPattern.Random;
                case CoordinateSource.Stratified: return SamplingPattern.Stratified;
                case CoordinateSource.Checkerboard: return SamplingPattern.Checkerboard;
                default: return null;
            }
        }
    }
}
