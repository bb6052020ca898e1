namespace Sgaps.Client
{
    /// <summary>
    /// The newest sets of this connection. The gateway keeps as many of a session, or more; and another gateway, which a resumed
    /// session may be on, knows none of the earlier ones.
    /// </summary>
    internal sealed class CoordinateSets
    {
        private const int Kept = 16;

        private readonly UVCoordinates[] _sets = new UVCoordinates[Kept];
        private int _next;

        public UVCoordinates Newest { get; private set; }

        public void Add(UVCoordinates set)
        {
            _sets[_next] = Newest = set;
            _next = (_next + 1) % Kept;
        }

        public void Clear()
        {
            System.Array.Clear(_sets, 0, Kept);
            Newest = null;
        }

        public bool Contains(UVCoordinates set)
        {
            foreach (var known in _sets) if (ReferenceEquals(known, set)) return true;
            return false;
        }
    }
}
