namespace GemmaServer.Text;

/// <summary>Reads sets of characters of a regular expression: <c>[...]</c>, <c>\d</c>, <c>\p{L}</c>.</summary>
internal sealed class RegexClass(RegexScanner scan)
{
    private static readonly CodePointRange[] s_digits = [new('0', '9')];
    private static readonly CodePointRange[] s_word = [new('0', '9'), new('A', 'Z'), new('_', '_'), new('a', 'z')];

    // WhiteSpace and LineTerminator of ECMA-262.
    private static readonly CodePointRange[] s_space =
    [
        new('\t', '\r'), new(' ', ' '), new(0xA0, 0xA0), new(0x1680, 0x1680), new(0x2000, 0x200A), new(0x2028, 0x2029),
        new(0x202F, 0x202F), new(0x205F, 0x205F), new(0x3000, 0x3000), new(0xFEFF, 0xFEFF),
    ];

    /// <summary>What <c>.</c> matches.</summary>
    public static CodePointRange[] NotLineEnds { get; } = CodePointSet.Complement([new('\n', '\n'), new('\r', '\r'), new(0x2028, 0x2029)]);

    /// <summary>Reads the rest of <c>[...]</c> behind its bracket.</summary>
    public CodePointRange[] Read(bool ignoreCase)
    {
        bool isNegated = scan.Take('^');
        List<CodePointRange> ranges = [];
        while (!scan.Take(']'))
        {
            if (scan.AtEnd) throw scan.Wrong("a set of characters does not end");
            if (TryReadSet(out CodePointRange[] set))
            {
                ranges.AddRange(set);
                continue;
            }
            int first = Character(), last = first;
            if (scan.Current == '-' && scan.Peek(1) is not (']' or '\0'))
            {
                scan.Skip(1);
                if (TryReadSet(out set))
                {
                    // Browsers take the hyphen as itself here.
                    ranges.Add(new(first, first));
                    ranges.Add(new('-', '-'));
                    ranges.AddRange(set);
                    continue;
                }
                last = Character();
                if (last < first) throw scan.Wrong("a range of characters is upside down");
            }
            ranges.Add(new(first, last));
        }
        CodePointRange[] all = Cased([.. ranges], ignoreCase);
        return isNegated ? CodePointSet.Complement(all) : all;
    }

    /// <summary>Takes <c>\d</c> and its like.</summary>
    public bool TryReadSet(out CodePointRange[] ranges)
    {
        ranges = [];
        if (scan.Current != '\\') return false;
        char kind = scan.Peek(1);
        switch (kind)
        {
            case 'd' or 'D': ranges = s_digits; break;
            case 'w' or 'W': ranges = s_word; break;
            case 's' or 'S': ranges = s_space; break;
            case 'p' or 'P':
                scan.Skip(2);
                string name = scan.Braced();
                ranges = UnicodeSets.Find(name) ?? throw scan.Wrong($"the property '{name}' is not supported");
                if (kind == 'P') ranges = CodePointSet.Complement(ranges);
                return true;
            default: return false;
        }
        scan.Skip(2);
        if (char.IsAsciiLetterUpper(kind)) ranges = CodePointSet.Complement(ranges);
        return true;
    }

    /// <summary>With the other cases of its letters.</summary>
    public CodePointRange[] Cased(CodePointRange[] ranges, bool ignoreCase) => ignoreCase ? UnicodeSets.WithOtherCases(ranges) : ranges;

    private int Character() => scan.Current == '\\' ? scan.Escape(inClass: true) : scan.CodePoint();
}
