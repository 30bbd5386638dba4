using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>
/// The compiled grammars that requests asked for last. A grammar is made once however many requests want it at the same time, never on
/// the engine's thread, within <see cref="GrammarLimits"/>.
/// </summary>
internal sealed class GrammarCache
{
    /// <summary>Grammars kept at most.</summary>
    public const int MaxCount = 128;

    /// <summary>Bytes that masks and states of all of them may take, about; the one used last stays in any case.</summary>
    public const long MaxBytes = 512L << 20;

    private readonly SemaphoreSlim _gate;
    private readonly Task<TokenTrie> _vocabulary;
    private readonly Lock _lock = new();
    private readonly Dictionary<string, LinkedListNode<Entry>> _byKey = new(StringComparer.Ordinal);
    private readonly LinkedList<Entry> _recent = [];       // latest use first
    private long _hits, _misses, _ticks;

    /// <summary>Begins to sort the vocabulary, so that the first request that needs a grammar need not wait for it.</summary>
    /// <param name="tokenizer">What tokens spell.</param>
    /// <param name="vocabularySize">Token ids are below it.</param>
    /// <param name="gate">Held while compiling: work for a core, of which the engine has need too.</param>
    public GrammarCache(Tokenizer tokenizer, int vocabularySize, SemaphoreSlim gate)
    {
        _gate = gate;
        _vocabulary = Task.Run(() => new TokenTrie(tokenizer, vocabularySize));
        WarmUp = Task.Run(WarmUpAsync);
    }

    /// <summary>Ends when the vocabulary is sorted and the characters of JSON are known to it.</summary>
    public Task WarmUp { get; }

    /// <summary>Requests whose grammar was there, or on its way.</summary>
    public long Hits => Volatile.Read(ref _hits);

    /// <summary>Requests whose grammar had to be made.</summary>
    public long Misses => Volatile.Read(ref _misses);

    /// <summary>Time spent on making grammars.</summary>
    public double CompileSeconds => Volatile.Read(ref _ticks) / (double)Stopwatch.Frequency;

    /// <summary>Grammars kept now.</summary>
    public int Count
    {
        get
        {
            lock (_lock) return _recent.Count;
        }
    }

    /// <summary>A short name for what a grammar is made of.</summary>
    public static string KeyOf(string parts) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(parts)));

    /// <summary>Gives the grammar, made now if need be.</summary>
    /// <param name="key">What it is made of.</param>
    /// <param name="root">The grammar.</param>
    /// <param name="cancellation">Stops waiting; the grammar is made for others all the same.</param>
    /// <exception cref="GrammarException">It cannot be followed, or not within the limits.</exception>
    public Task<CompiledGrammar> GetAsync(string key, GrammarNode root, CancellationToken cancellation)
    {
        Task<CompiledGrammar> task;
        lock (_lock)
        {
            if (_byKey.TryGetValue(key, out LinkedListNode<Entry>? known))
            {
                _hits++;
                _recent.Remove(known);
                _recent.AddFirst(known);
                task = known.Value.Grammar;
            }
            else
            {
                _misses++;
                task = Task.Run(() => CompileAsync(key, root), CancellationToken.None);
                _byKey.Add(key, _recent.AddFirst(new Entry(key, task)));
            }
            Trim();     // grammars grow while answers come through them
        }
        return task.WaitAsync(cancellation);
    }

    /// <summary>What most formats have in common is sought out before one is asked for: the tokens that strings are made of.</summary>
    private async Task WarmUpAsync()
    {
        TokenTrie vocabulary = await _vocabulary;
        try
        {
            _ = new GrammarMatcher(CompiledGrammar.Compile(JsonSchemaGrammar.AnyObject(AnswerFormatReader.SchemaOptions()), vocabulary)).Allowed;
        }
        catch (GrammarException)
        {
            // A vocabulary that cannot spell JSON: requests for it are told so.
        }
    }

    private async Task<CompiledGrammar> CompileAsync(string key, GrammarNode root)
    {
        await _gate.WaitAsync();
        long start = Stopwatch.GetTimestamp();
        try
        {
            return CompiledGrammar.Compile(root, await _vocabulary);
        }
        catch
        {
            lock (_lock)
            {
                if (_byKey.Remove(key, out LinkedListNode<Entry>? entry)) _recent.Remove(entry);
            }
            throw;
        }
        finally
        {
            Interlocked.Add(ref _ticks, Stopwatch.GetTimestamp() - start);
            _gate.Release();
        }
    }

    /// <summary>Forgets those that were not used for longest. Answers that go on keep theirs.</summary>
    private void Trim()
    {
        long bytes = 0;
        foreach (Entry entry in _recent)
            if (entry.Grammar.IsCompletedSuccessfully) bytes += entry.Grammar.Result.CachedBytes;
        while (_recent.Count > 1 && (_recent.Count > MaxCount || bytes > MaxBytes))
        {
            Entry last = _recent.Last!.Value;
            if (last.Grammar.IsCompletedSuccessfully) bytes -= last.Grammar.Result.CachedBytes;
            _byKey.Remove(last.Key);
            _recent.RemoveLast();
        }
    }

    private sealed record Entry(string Key, Task<CompiledGrammar> Grammar);
}
