using System;
using System.Collections.Generic;

namespace Sgaps.Client.Json
{
    /// <summary>The fields of one JSON object, by name and type; every miss is a ProtocolException that names it.</summary>
    internal sealed class JsonFields
    {
        private const double LargestExactInteger = 9007199254740991;

        private readonly Dictionary<string, object> _fields;
        private readonly string _where;

        private JsonFields(Dictionary<string, object> fields, string where)
        {
            _fields = fields;
            _where = where;
        }

        public static JsonFields Of(object value, string where)
        {
            var fields = value as Dictionary<string, object>;
            if (fields == null) throw ProtocolException.BadMessage(where + ": not an object");
            return new JsonFields(fields, where);
        }

        public string Text(string name)
        {
            return Typed<string>(name, Required(name), "a text");
        }

        public bool Flag(string name)
        {
            return Typed<bool>(name, Required(name), "true or false");
        }

        public bool Flag(string name, bool absent)
        {
            var value = Optional(name);
            return value == null ? absent : Typed<bool>(name, value, "true or false");
        }

        public double Number(string name)
        {
            return Typed<double>(name, Required(name), "a number");
        }

        public double? OptionalNumber(string name)
        {
            var value = Optional(name);
            return value == null ? (double?)null : Typed<double>(name, value, "a number");
        }

        /// <summary>An integer that a double holds exactly, not less than `least`.</summary>
        public long Integer(string name, long least, long most = (long)LargestExactInteger)
        {
            return Whole(name, Required(name), least, most);
        }

        public long Integer(string name, long least, long most, long absent)
        {
            var value = Optional(name);
            return value == null ? absent : Whole(name, value, least, most);
        }

        public List<object> Items(string name)
        {
            return Typed<List<object>>(name, Required(name), "a list");
        }

        /// <summary>A list of texts; empty where the field is absent.</summary>
        public List<string> Texts(string name)
        {
            var texts = new List<string>();
            var items = Optional(name);
            if (items == null) return texts;
            foreach (var item in Typed<List<object>>(name, items, "a list"))
            {
                texts.Add(Typed<string>(name, item, "a list of texts"));
            }
            return texts;
        }

        /// <summary>An object within this one; null where it is absent.</summary>
        public JsonFields OptionalObject(string name)
        {
            var value = Optional(name);
            return value == null ? null : Of(value, name);
        }

        private long Whole(string name, object value, long least, long most)
        {
            var number = Typed<double>(name, value, "an integer");
            if (number != Math.Floor(number) || number < least || number > most)
            {
                throw Bad(name, "not an integer from " + least + " to " + most);
            }
            return (long)number;
        }

        private object Required(string name)
        {
            object value;
            if (!_fields.TryGetValue(name, out value)) throw Bad(name, "is missing");
            return value;
        }

        private object Optional(string name)
        {
            object value;
            return _fields.TryGetValue(name, out value) ? value : null;
        }

        private T Typed<T>(string name, object value, string wanted)
        {
            if (value is T) return (T)value;
            throw Bad(name, "is not " + wanted);
        }

        private ProtocolException Bad(string name, string reason)
        {
            return ProtocolException.BadMessage(_where + "." + name + ": " + reason);
        }
    }
}
