import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The hot drop on Kafka Streams, exactly_once_v2: an idempotency store and a stock store in RocksDB with changelogs, one
 * decision out per intent. Records are fixed binary, 60 bytes in and 90 out, so that it pays nothing for Avro.
 *
 * Its settings are what its users raise first: larger fetches and batches, lz4, a write-back cache over the one hot row
 * (over the orders, each of which is written once, a cache is in the way). Prints {"intents": …, "seconds": …} from its
 * first committed offset to its last.
 */
public final class HotDropStreams {
    static final int REPEATS_EVERY = 50;
    static final int REPEATS_AFTER = 1_000;

    public static void main(String[] arguments) throws Exception {
        String brokers = arguments[0];
        int intents = Integer.parseInt(arguments[1]);
        int stock = Integer.parseInt(arguments[2]);
        String name = "streams-peer-" + arguments[3];
        String input = name + "-intents";
        String output = name + "-decisions";
        Properties client = new Properties();
        client.put("bootstrap.servers", brokers);
        try (Admin admin = Admin.create(client)) {
            admin.createTopics(List.of(new NewTopic(input, 1, (short) 1), new NewTopic(output, 1, (short) 1)))
                .all().get();
            fill(brokers, input, intents, stock);
            KafkaStreams streams = new KafkaStreams(topology(input, output), settings(brokers, name));
            streams.start();
            measure(admin, name, new TopicPartition(input, 0), intents + 1L);
            streams.close(Duration.ofSeconds(20));
            streams.cleanUp();
            admin.deleteTopics(admin.listTopics().names().get().stream().filter(t -> t.startsWith(name)).toList())
                .all().get();
        }
    }

    /** The first record is the stock, the others are orders of one unit; some repeat an earlier one. */
    static void fill(String brokers, String topic, int intents, int stock) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", brokers);
        settings.put(ProducerConfig.LINGER_MS_CONFIG, 5);
        settings.put(ProducerConfig.BATCH_SIZE_CONFIG, 262_144);
        settings.put(ProducerConfig.COMPRESSION_TYPE_CONFIG, "lz4");
        byte[] drop = id("drop", 0);
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            producer.send(new ProducerRecord<>(topic, drop, ByteBuffer.allocate(4).putInt(stock).array()));
            for (int intent = 0; intent < intents; intent++) {
                boolean repeats = intent % REPEATS_EVERY == REPEATS_EVERY - 1 && intent > REPEATS_AFTER;
                int buyer = repeats ? intent - REPEATS_AFTER + 1 : intent;
                ByteBuffer order = ByteBuffer.allocate(60);
                order.put(id("order", buyer)).put(id("user", buyer)).put(id("intent", intent)).putInt(1).putLong(intent);
                producer.send(new ProducerRecord<>(topic, drop, order.array()));
            }
            producer.flush();
        }
    }

    static byte[] id(String kind, int number) throws Exception {
        byte[] digest = MessageDigest.getInstance("SHA-256").digest((kind + number).getBytes());
        return java.util.Arrays.copyOf(digest, 16);
    }

    static Properties settings(String brokers, String name) throws Exception {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, name);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, Files.createTempDirectory("streams-peer").toString());
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 500);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64L * 1024 * 1024);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 262_144);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 5);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 64L * 1024 * 1024);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 10_000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 8 * 1024 * 1024);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        return settings;
    }

    static Topology topology(String input, String output) {
        Topology topology = new Topology();
        topology.addSource("intents", new ByteArrayDeserializer(), new ByteArrayDeserializer(), input);
        topology.addProcessor("reserve", Reserve::new, "intents");
        topology.addStateStore(Stores.keyValueStoreBuilder(
            Stores.persistentKeyValueStore("orders"), Serdes.Bytes(), Serdes.ByteArray()), "reserve");
        topology.addStateStore(Stores.keyValueStoreBuilder(
            Stores.persistentKeyValueStore("stock"), Serdes.Bytes(), Serdes.Integer()).withCachingEnabled(), "reserve");
        topology.addSink("decisions", output, new ByteArraySerializer(), new ByteArraySerializer(), "reserve");
        return topology;
    }

    /** Looks the order up, takes a unit if there is one, remembers and tells the decision. */
    static final class Reserve implements Processor<byte[], byte[], byte[], byte[]> {
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<Bytes, byte[]> orders;
        private KeyValueStore<Bytes, Integer> stock;
        private long sequence;

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            this.context = context;
            orders = context.getStateStore("orders");
            stock = context.getStateStore("stock");
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            Bytes drop = Bytes.wrap(record.key());
            if (record.value().length == 4) {
                stock.put(drop, ByteBuffer.wrap(record.value()).getInt());
                return;
            }
            ByteBuffer intent = ByteBuffer.wrap(record.value());
            byte[] orderId = new byte[16];
            intent.get(orderId);
            Bytes key = Bytes.wrap(orderId);
            byte[] decision = orders.get(key);
            if (decision == null) {
                int available = stock.get(drop);
                int wanted = intent.getInt(48);
                boolean granted = available >= wanted;
                if (granted) {
                    stock.put(drop, available - wanted);
                }
                decision = ByteBuffer.allocate(90).put(record.value()).put((byte) (granted ? 1 : 0))
                    .putLong(sequence++).putLong(record.timestamp()).array();
                orders.put(key, decision);
            }
            context.forward(new Record<>(record.key(), decision, record.timestamp()));
        }
    }

    /** From the first committed offset of the input to the last. */
    static void measure(Admin admin, String group, TopicPartition partition, long end) throws Exception {
        long firstOffset = 0;
        long firstTime = 0;
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(120);
        while (System.nanoTime() < deadline) {
            long offset = 0;
            try {
                var committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(partition);
                offset = committed == null ? 0 : committed.offset();
            } catch (java.util.concurrent.ExecutionException notYet) {
                // The group is there once the application has joined.
            }
            long now = System.nanoTime();
            if (firstOffset == 0 && offset > 0) {
                firstOffset = offset;
                firstTime = now;
            }
            if (offset >= end) {
                System.out.printf("{\"intents\": %d, \"seconds\": %.3f}%n", offset - firstOffset, (now - firstTime) / 1e9);
                return;
            }
            Thread.sleep(50);
        }
        throw new IllegalStateException("not done after 120 s");
    }
}
