using static GemmaServer.Text.GrammarParts;

namespace GemmaServer.Text;

/// <summary>
/// The formats of JSON Schema that are kept, as grammars of the decoded text. Each matches only what the strictest of the usual
/// validators takes: no leap seconds, no year 0, labels and parts of a length that keeps the whole within its limit.
/// </summary>
internal static class FormatGrammar
{
    private static readonly Dictionary<string, GrammarNode> s_formats = Build();

    /// <summary>The format's grammar; null for one that is only an annotation here.</summary>
    public static GrammarNode? Find(string format) => s_formats.GetValueOrDefault(format);

    private static Dictionary<string, GrammarNode> Build()
    {
        GrammarNode date = Date(), time = Time(), hostname = Hostname(0, 7), domain = Hostname(1, 5);
        return new(StringComparer.Ordinal)
        {
            ["date"] = date,
            ["time"] = time,
            ["date-time"] = Seq(date, Text("T"), time),
            ["duration"] = Duration(),
            ["hostname"] = hostname,
            ["email"] = Email(domain),
            ["ipv4"] = Ipv4(),
            ["ipv6"] = Ipv6(),
            ["uuid"] = Seq(Hex(8), Text("-"), Hex(4), Text("-"), Hex(4), Text("-"), Hex(4), Text("-"), Hex(12)),
            ["uri"] = Uri(hostname),
        };
    }

    private static GrammarNode Date()
    {
        GrammarNode year = Alt(
            Seq(OneOf("1-9"), Digits(3)), Seq(Text("0"), OneOf("1-9"), Digits(2)),
            Seq(Text("00"), OneOf("1-9"), Digits(1)), Seq(Text("000"), OneOf("1-9")));
        GrammarNode fourth = Alt(Seq(Text("0"), OneOf("48")), Seq(OneOf("2468"), OneOf("048")), Seq(OneOf("13579"), OneOf("26")));
        GrammarNode leapYear = Alt(Seq(Digits(2), fourth), Seq(fourth, Text("00")));
        GrammarNode day28 = Alt(Seq(Text("0"), OneOf("1-9")), Seq(Text("1"), Digit), Seq(Text("2"), OneOf("0-8")));
        GrammarNode day30 = Alt(day28, Words(["29", "30"])), day31 = Alt(day30, Text("31"));
        return Alt(
            Seq(year, Text("-"), Alt(
                Seq(Words(["01", "03", "05", "07", "08", "10", "12"]), Text("-"), day31),
                Seq(Words(["04", "06", "09", "11"]), Text("-"), day30),
                Seq(Text("02-"), day28))),
            Seq(leapYear, Text("-02-29")));
    }

    private static GrammarNode Time()
    {
        GrammarNode hour = Alt(Seq(OneOf("01"), Digit), Seq(Text("2"), OneOf("0-3"))), minute = Seq(OneOf("0-5"), Digit);
        return Seq(hour, Text(":"), minute, Text(":"), minute, Maybe(Seq(Text("."), Times(Digit, 1, 9))),
            Alt(Text("Z"), Seq(OneOf("+-"), hour, Text(":"), minute)));
    }

    /// <summary>As RFC 3339, appendix A: a unit may be left out only at either end.</summary>
    private static GrammarNode Duration()
    {
        GrammarNode number = Times(Digit, 1, 9);
        GrammarNode seconds = Seq(number, Text("S"));
        GrammarNode minutes = Seq(number, Text("M"), Maybe(seconds));
        GrammarNode hours = Seq(number, Text("H"), Maybe(minutes));
        GrammarNode time = Seq(Text("T"), Alt(hours, minutes, seconds));
        GrammarNode days = Seq(number, Text("D"));
        GrammarNode months = Seq(number, Text("M"), Maybe(days));
        GrammarNode years = Seq(number, Text("Y"), Maybe(months));
        return Seq(Text("P"), Alt(Seq(Alt(years, months, days), Maybe(time)), time, Seq(number, Text("W"))));
    }

    /// <summary>Labels of up to 30 characters, so that eight of them stay under 253.</summary>
    private static GrammarNode Hostname(int minDots, int maxDots)
    {
        GrammarNode alphanumeric = OneOf("a-zA-Z0-9");
        GrammarNode label = Seq(alphanumeric, Maybe(Seq(Times(OneOf("a-zA-Z0-9-"), 0, 28), alphanumeric)));
        // The last label begins with a letter, or the name could be taken for an address.
        GrammarNode last = Seq(OneOf("a-zA-Z"), Maybe(Seq(Times(OneOf("a-zA-Z0-9-"), 0, 28), alphanumeric)));
        return Seq(Times(Seq(WithoutDoubleHyphen(label), Text(".")), minDots, maxDots), WithoutDoubleHyphen(last));
    }

    /// <summary>Labels such as <c>xn--a</c> stand for Unicode; whether they stand for any is not for a grammar to tell.</summary>
    private static GrammarNode WithoutDoubleHyphen(GrammarNode label) =>
        GrammarNode.Except(label, Seq(AnyText, Text("--"), AnyText));

    private static GrammarNode Email(GrammarNode domain)
    {
        GrammarNode atom = Times(OneOf("a-zA-Z0-9!#$%&'*+/=?^_`{|}~-"), 1, 20);
        return Seq(atom, Times(Seq(Text("."), atom), 0, 2), Text("@"), domain);
    }

    private static GrammarNode Ipv4()
    {
        GrammarNode part = Alt(
            Seq(Text("25"), OneOf("0-5")), Seq(Text("2"), OneOf("0-4"), Digit), Seq(Text("1"), Digit, Digit), Seq(OneOf("1-9"), Digit), Digit);
        return Seq(part, Times(Seq(Text("."), part), 3, 3));
    }

    private static GrammarNode Ipv6()
    {
        GrammarNode group = Times(OneOf("0-9a-fA-F"), 1, 4);
        List<GrammarNode> forms = [Seq(group, Times(Seq(Text(":"), group), 7, 7))];
        // "::" stands for one group at least.
        for (int before = 0; before <= 7; before++)
        {
            GrammarNode head = before == 0 ? GrammarNode.Empty : Seq(group, Times(Seq(Text(":"), group), before - 1, before - 1));
            int after = 7 - before;
            GrammarNode tail = after == 0 ? GrammarNode.Empty : Maybe(Seq(group, Times(Seq(Text(":"), group), 0, after - 1)));
            forms.Add(Seq(head, Text("::"), tail));
        }
        return Alt([.. forms]);
    }

    private static GrammarNode Uri(GrammarNode hostname)
    {
        const string Unreserved = "a-zA-Z0-9._~-";
        GrammarNode escaped = Seq(Text("%"), Hex(2));
        GrammarNode segmentChar = Alt(OneOf("!$&'()*+,;=:@" + Unreserved), escaped);
        GrammarNode queryChar = Alt(OneOf("!$&'()*+,;=:@/?" + Unreserved), escaped);
        GrammarNode segments = Times(Seq(Text("/"), Times(segmentChar, 0, null)), 0, null);
        GrammarNode scheme = Seq(OneOf("a-zA-Z"), Times(OneOf("a-zA-Z0-9+.-"), 0, 20));
        GrammarNode user = Maybe(Seq(Times(Alt(OneOf("!$&'()*+,;=:" + Unreserved), escaped), 1, 60), Text("@")));
        GrammarNode authority = Seq(Text("//"), user, Alt(hostname, Ipv4(), Seq(Text("["), Ipv6(), Text("]"))), Maybe(Seq(Text(":"), Times(Digit, 1, 5))));
        return Seq(scheme, Text(":"), Alt(Seq(authority, segments), Seq(Times(segmentChar, 1, null), segments)),
            Maybe(Seq(Text("?"), Times(queryChar, 0, null))), Maybe(Seq(Text("#"), Times(queryChar, 0, null))));
    }

    private static GrammarNode Text(string text) => GrammarNode.Literal(text);

    private static GrammarNode Digits(int count) => Times(Digit, count, count);

    private static GrammarNode Hex(int count) => Times(OneOf("0-9a-fA-F"), count, count);
}
