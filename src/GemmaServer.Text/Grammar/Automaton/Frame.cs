namespace GemmaServer.Text;

/// <summary>Where to go on when a unit ends.</summary>
/// <param name="Call">The call's edge; -1 for the end of the whole grammar.</param>
/// <param name="Count">Rounds that are complete; no more than matter.</param>
/// <param name="Caller">The caller's own frame.</param>
internal readonly record struct Return(int Call, int Count, Frame? Caller);

/// <summary>
/// All the ways a unit that was entered at one place may return: a stack whose alternatives share what they can. Equal frames
/// are one object.
/// </summary>
internal sealed class Frame(int id, int hash, Return[] returns)
{
    public int Id => id;

    public int Hash => hash;

    /// <summary>Sorted.</summary>
    public Return[] Returns => returns;

    /// <summary>Another one whose hash begins alike.</summary>
    public Frame? NextInBucket { get; init; }

    /// <summary>One that no token can tell from this one.</summary>
    public Frame? Like { get; set; }

    public static int Hashed(ReadOnlySpan<Return> returns)
    {
        HashCode hash = new();
        foreach (Return way in returns)
        {
            hash.Add(way.Call);
            hash.Add(way.Count);
            hash.Add(way.Caller?.Id ?? -1);
        }
        return hash.ToHashCode();
    }
}

/// <summary>An automaton's state and the frame to return to.</summary>
internal readonly record struct Place(int State, Frame Frame);
