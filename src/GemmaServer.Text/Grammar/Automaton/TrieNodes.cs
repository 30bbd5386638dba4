using System.Runtime.CompilerServices;

namespace GemmaServer.Text;

/// <summary>A node of a tree of tokens. The nodes lie in the order of a walk that takes parents before children.</summary>
/// <param name="Skip">The next node that is not below this one.</param>
/// <param name="FirstToken">Where this node's tokens start in the list of sorted ids; they end where the next node's start.</param>
/// <param name="Depth">Bytes from the root, this one included.</param>
/// <param name="Byte">The last of them.</param>
internal readonly record struct TrieNode(int Skip, int FirstToken, int Depth, byte Byte);

/// <summary>A tree of tokens, flat.</summary>
internal sealed class TrieNodes
{
    /// <param name="sorted">Ids by their bytes.</param>
    /// <param name="bytes">Bytes by id.</param>
    public TrieNodes(int[] sorted, byte[][] bytes)
    {
        Ids = sorted;
        List<TrieNode> nodes = new(sorted.Length * 2);
        List<int> path = [];   // the nodes from the root to the last token
        ReadOnlySpan<byte> before = default;
        for (int i = 0; i < sorted.Length; i++)
        {
            ReadOnlySpan<byte> token = bytes[sorted[i]];
            int shared = token.CommonPrefixLength(before);
            Close(nodes, path, shared);
            for (int depth = shared; depth < token.Length; depth++)
            {
                path.Add(nodes.Count);
                // Nodes on the way to the first token have none: they start where it does.
                nodes.Add(new(0, i, depth + 1, token[depth]));
            }
            MaxDepth = Math.Max(MaxDepth, token.Length);
            before = token;
        }
        Close(nodes, path, 0);
        nodes.Add(new(nodes.Count, sorted.Length, 0, 0));   // ends the last node's tokens
        Nodes = [.. nodes];
    }

    /// <summary>All nodes and one behind them.</summary>
    public TrieNode[] Nodes { get; }

    public int[] Ids { get; }

    public int MaxDepth { get; }

    public long ByteSize => (long)Nodes.Length * Unsafe.SizeOf<TrieNode>() + Ids.Length * sizeof(int);

    private static void Close(List<TrieNode> nodes, List<int> path, int keep)
    {
        for (int depth = keep; depth < path.Count; depth++) nodes[path[depth]] = nodes[path[depth]] with { Skip = nodes.Count };
        path.RemoveRange(keep, path.Count - keep);
    }
}
