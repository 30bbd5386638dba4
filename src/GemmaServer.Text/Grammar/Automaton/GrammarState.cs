namespace GemmaServer.Text;

/// <summary>
/// Everywhere a grammar may be after some text: its places, and what was found out about going on from here. Equal states are one
/// object as long as none is forgotten.
/// </summary>
/// <remarks>
/// What is found out is written under the grammar's lock and read without: each is one reference, and what it leads to is complete
/// before.
/// </remarks>
internal sealed class GrammarState(int hash, Place[] places, bool isComplete)
{
    /// <summary>Nothing goes on from here, and nothing ends.</summary>
    public static GrammarState Dead { get; } = new(0, [], isComplete: false);

    public int Hash => hash;

    /// <summary>Sorted by state, each of which occurs once; only those that take a byte or a special token.</summary>
    public Place[] Places => places;

    /// <summary>The text may end here.</summary>
    public bool IsComplete => isComplete;

    public bool IsFinished => isComplete && places.Length == 0;

    /// <summary>Another one whose hash begins alike.</summary>
    public GrammarState? NextInBucket { get; init; }

    /// <summary>A state with the same mask, which has it for all that are like it; null until it was looked for.</summary>
    public GrammarState? Like { get; set; }

    /// <summary>About what the following take.</summary>
    public long HeldBytes { get; set; }

    /// <summary>An answer came by since it was last asked.</summary>
    public bool IsUsed { get; set; }

    /// <summary>By class of bytes; null where it was not looked at yet.</summary>
    public GrammarState?[]? Row { get; set; }

    /// <summary>Where special tokens lead; null until it was looked at.</summary>
    public (int Token, GrammarState Next)[]? Specials { get; set; }

    /// <summary>Where the characters of each of the grammar's slices lead.</summary>
    public CharacterStep?[]? Characters { get; set; }

    /// <summary>The tokens that may come next; null until it was worked out.</summary>
    public ulong[]? Mask { get; set; }

    public void Forget()
    {
        HeldBytes = 0;
        Like = null;
        Row = null;
        Specials = null;
        Characters = null;
        Mask = null;
    }
}

/// <summary>Where one character of a set may lead.</summary>
/// <param name="Next">The states, each once; null where there are too many to follow.</param>
/// <param name="All">Every character of the set goes on.</param>
internal sealed record CharacterStep(GrammarState[]? Next, bool All)
{
    public static CharacterStep Unknown { get; } = new(null, false);
}
