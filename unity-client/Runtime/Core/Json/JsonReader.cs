using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace Sgaps.Client.Json
{
    /// <summary>
    /// A strict reader of RFC 8259 for messages from outside: no NaN, no infinity, no duplicate keys, no
    /// lone surrogates, no deep nesting. Values are Dictionary, List, string, double, bool or null.
    /// </summary>
    internal sealed class JsonReader
    {
        private const int MaxDepth = 16;

        private readonly string _text;
        private int _at;
        private int _depth;

        private JsonReader(string text)
        {
            _text = text;
        }

        /// <summary>The value that the whole text is. Throws ProtocolException.</summary>
        public static object Read(string text)
        {
            var reader = new JsonReader(text);
            var value = reader.Value();
            reader.SkipSpace();
            if (reader._at != text.Length) throw reader.Bad("text after the value");
            return value;
        }

        private object Value()
        {
            SkipSpace();
            switch (Peek())
            {
                case '{': return Nested(Object);
                case '[': return Nested(Array);
                case '"': return String();
                case 't': return Word("true", true);
                case 'f': return Word("false", false);
                case 'n': return Word("null", null);
                default: return Number();
            }
        }

        private object Nested(Func<object> read)
        {
            if (++_depth > MaxDepth) throw Bad("nested too deep");
            _at++;
            var value = read();
            _depth--;
            return value;
        }

        private object Object()
        {
            var fields = new Dictionary<string, object>(StringComparer.Ordinal);
            if (Ends('}')) return fields;
            do
            {
                SkipSpace();
                var name = String();
                SkipSpace();
                if (!Takes(':')) throw Bad("expected ':'");
                if (fields.ContainsKey(name)) throw Bad("a second '" + name + "'");
                fields.Add(name, Value());
            }
            while (Continues('}'));
            return fields;
        }

        private object Array()
        {
            var items = new List<object>();
            if (Ends(']')) return items;
            do
            {
                items.Add(Value());
            }
            while (Continues(']'));
            return items;
        }

        private bool Ends(char end)
        {
            SkipSpace();
            return Takes(end);
        }

        private bool Continues(char end)
        {
            SkipSpace();
            if (Takes(',')) return true;
            if (Takes(end)) return false;
            throw Bad("expected ',' or '" + end + "'");
        }

        private string String()
        {
            if (!Takes('"')) throw Bad("expected a string");
            var characters = new StringBuilder();
            while (!Takes('"'))
            {
                var next = Peek();
                if (next < ' ') throw Bad("a control character in a string");
                _at++;
                characters.Append(next == '\\' ? Escaped() : next);
            }
            var text = characters.ToString();
            RequireWholeCharacters(text);
            return text;
        }

        private char Escaped()
        {
            var code = Peek();
            _at++;
            switch (code)
            {
                case 'b': return '\b';
                case 'f': return '\f';
                case 'n': return '\n';
                case 'r': return '\r';
                case 't': return '\t';
                case 'u': return Unicode();
                case '"': case '\\': case '/': return code;
                default: throw Bad("no such escape");
            }
        }

        private char Unicode()
        {
            ushort unit;
            if (_at + 4 > _text.Length) throw Bad("the text ends in an escape");
            var digits = _text.Substring(_at, 4);
            if (!ushort.TryParse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out unit))
            {
                throw Bad("no such escape");
            }
            _at += 4;
            return (char)unit;
        }

        private void RequireWholeCharacters(string text)
        {
            for (var i = 0; i < text.Length; i++)
            {
                if (!char.IsSurrogate(text[i])) continue;
                var isPair = char.IsHighSurrogate(text[i]) && i + 1 < text.Length && char.IsLowSurrogate(text[i + 1]);
                if (!isPair) throw Bad("a lone surrogate");
                i++;
            }
        }

        private object Word(string word, object value)
        {
            if (string.CompareOrdinal(_text, _at, word, 0, word.Length) != 0) throw Bad("no such word");
            _at += word.Length;
            return value;
        }

        private object Number()
        {
            var start = _at;
            Takes('-');
            if (!Takes('0')) Digits();
            if (Takes('.')) Digits();
            if (Takes('e') || Takes('E'))
            {
                if (!Takes('+')) Takes('-');
                Digits();
            }
            return Finite(_text.Substring(start, _at - start));
        }

        private object Finite(string digits)
        {
            double number;
            var isRead = double.TryParse(digits, NumberStyles.Float, CultureInfo.InvariantCulture, out number);
            // Mono refuses 1e400, .NET Core reads it as infinity.
            if (!isRead || double.IsInfinity(number)) throw Bad("a number that is too large");
            return number;
        }

        private void Digits()
        {
            var start = _at;
            while (_at < _text.Length && _text[_at] >= '0' && _text[_at] <= '9') _at++;
            if (_at == start) throw Bad("expected a value");
        }

        private bool Takes(char expected)
        {
            if (_at >= _text.Length || _text[_at] != expected) return false;
            _at++;
            return true;
        }

        private char Peek()
        {
            if (_at >= _text.Length) throw Bad("the text ends too early");
            return _text[_at];
        }

        private void SkipSpace()
        {
            while (_at < _text.Length && " \t\r\n".IndexOf(_text[_at]) >= 0) _at++;
        }

        private ProtocolException Bad(string reason)
        {
            return new ProtocolException(ErrorCodes.BadJson, reason + " at character " + _at);
        }
    }
}
