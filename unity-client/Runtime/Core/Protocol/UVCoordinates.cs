using System;

namespace Sgaps.Client
{
    /// <summary>Where one sample is taken.</summary>
    public struct UVCoordinate
    {
        /// <summary>0..1 from the left edge of the picture to the right.</summary>
        public readonly float U;

        /// <summary>0..1 from the top edge of the picture <b>down</b>; Unity's own v grows up.</summary>
        public readonly float V;

        /// <summary>Side in pixels of the square around (U, V) whose mean is the sample; 1 is a point.</summary>
        public readonly int SidePx;

        /// <summary>A square around (u, v), v down; a point where no side is given.</summary>
        public UVCoordinate(float u, float v, int sidePx = 1)
        {
            U = u;
            V = v;
            SidePx = sidePx;
        }
    }

    /// <summary>How much the server wants to know about each place: row by row, 255 = most.</summary>
    public sealed class ImportanceMap
    {
        internal ImportanceMap(int width, int height, byte[] values)
        {
            Width = width;
            Height = height;
            Values = values;
        }

        /// <summary>Columns of the map.</summary>
        public int Width { get; private set; }

        /// <summary>Rows of the map, the top one first.</summary>
        public int Height { get; private set; }

        /// <summary>Width × Height bytes.</summary>
        public byte[] Values { get; private set; }
    }

    /// <summary>`uv_coordinates`: one set of places to sample. Never changes once it is made.</summary>
    public sealed class UVCoordinates
    {
        /// <summary>Id that a frame gives where the server did not choose its coordinates.</summary>
        public const long OwnChoiceSetId = 0;

        internal UVCoordinates(UVCoordinate[] coords, bool hasFootprints)
        {
            Coords = coords;
            HasFootprints = hasFootprints;
            FrameId = -1;
            ModelVersion = "none";
        }

        /// <summary>
        /// Points of a game's own choosing, for sessions whose config says so. Throws ArgumentException for a square, or
        /// one that is outside the picture.
        /// </summary>
        public static UVCoordinates OwnChoice(UVCoordinate[] coords)
        {
            foreach (var coord in coords)
            {
                var isInside = coord.U >= 0 && coord.U <= 1 && coord.V >= 0 && coord.V <= 1;
                if (!isInside || coord.SidePx != 1) throw new ArgumentException("not a point of 0..1", "coords");
            }
            return new UVCoordinates(coords, false);
        }

        /// <summary>The frame that the set was computed from; -1 for the first set of a session.</summary>
        public long FrameId { get; internal set; }

        /// <summary>Which set this is; a frame that samples it names it.</summary>
        public long SetId { get; internal set; }

        /// <summary>The places, in the order in which their values are sent. Not to be written to.</summary>
        public UVCoordinate[] Coords { get; private set; }

        /// <summary>Whether the session samples squares; else every side is 1.</summary>
        public bool HasFootprints { get; private set; }

        /// <summary>Null unless the session asked for it and the server has one.</summary>
        public ImportanceMap Importance { get; internal set; }

        /// <summary>The checkpoint that rebuilt the frame.</summary>
        public string ModelVersion { get; internal set; }

        /// <summary>What the server expects of its rebuilt frame, in dB; null where it does not know.</summary>
        public double? PredictedPsnrDb { get; internal set; }
    }
}
