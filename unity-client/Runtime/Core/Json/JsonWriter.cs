using System.Globalization;
using System.Text;

namespace Sgaps.Client.Json
{
    /// <summary>Writes one JSON text; numbers in the invariant culture, whatever the player's is.</summary>
    internal sealed class JsonWriter
    {
        private readonly StringBuilder _text = new StringBuilder();
        private bool _needsComma;

        public override string ToString()
        {
            return _text.ToString();
        }

        public JsonWriter Begin(char bracket)
        {
            Separate();
            _text.Append(bracket);
            _needsComma = false;
            return this;
        }

        public JsonWriter End(char bracket)
        {
            _text.Append(bracket);
            _needsComma = true;
            return this;
        }

        public JsonWriter Name(string name)
        {
            Text(name);
            _text.Append(':');
            _needsComma = false;
            return this;
        }

        public JsonWriter Text(string value)
        {
            Separate();
            _text.Append('"');
            foreach (var character in value) Escape(character);
            _text.Append('"');
            return this;
        }

        public JsonWriter Integer(long value)
        {
            Separate();
            _text.Append(value.ToString(CultureInfo.InvariantCulture));
            return this;
        }

        /// <summary>A finite number with every digit that it needs to be read as the same; "R" fails on some in older runtimes.</summary>
        public JsonWriter Number(double value)
        {
            Separate();
            _text.Append(value.ToString("G17", CultureInfo.InvariantCulture));
            return this;
        }

        /// <summary>A number of 0..1 to a millionth: a thousandth of a pixel at 1000 pixels.</summary>
        public JsonWriter Fraction(double value)
        {
            Separate();
            _text.Append(value.ToString("0.######", CultureInfo.InvariantCulture));
            return this;
        }

        private void Separate()
        {
            if (_needsComma) _text.Append(',');
            _needsComma = true;
        }

        private void Escape(char character)
        {
            if (character == '"' || character == '\\') _text.Append('\\').Append(character);
            else if (character < ' ') _text.Append("\\u").Append(((int)character).ToString("x4"));
            else _text.Append(character);
        }
    }
}
